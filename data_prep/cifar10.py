"""Kaggle's "cifar-10": 50,000 labelled and 300,000 test images, 32x32 RGB PNG, ten classes.

Also takes d2l's small sample of it (1,000 + 100 images).
Source: https://www.kaggle.com/c/cifar-10/data
"""

from data_prep.layout import Layout

LAYOUT = Layout(
    task="cifar10",
    labels="trainLabels.csv",
    label_column="label",
    sample_submission="sampleSubmission.csv",
    test_labels="testLabels.csv",
    image_size=32,
    train_folders=("train", "train_1000samples"),
    test_folders=("test", "test_100samples"),
)
