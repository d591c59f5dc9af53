"""Kaggle's "dog-breed-identification": 10,222 labelled and 10,357 test JPEG, 120 breeds.

Images have any size; they are a subset of ImageNet. 256 is the short side of the notes'
evaluation transform.
Source: https://www.kaggle.com/c/dog-breed-identification/data
"""

from data_prep.layout import Layout

LAYOUT = Layout(
    task="dog_breed",
    labels="labels.csv",
    label_column="breed",
    sample_submission="sample_submission.csv",
    short_side=256,
)
