"""Study `digits`: scikit-learn's 1,797 real handwritten digits, 8 x 8 pixels. Needs no download.

resnet-tune run digits
"""

from dataclasses import replace

from optuna.distributions import CategoricalDistribution, FloatDistribution

import trainables.digits
from data_prep.digits import LAYOUT
from search.study import Study

STUDY = Study(
    task="digits",
    layout=LAYOUT,
    trainables=trainables.digits,
    config=replace(trainables.digits.CONFIG, num_epochs=15, schedule="one_cycle"),
    space={
        "lr": FloatDistribution(0.01, 0.5, log=True),
        "momentum": FloatDistribution(0.8, 0.99),
        "weight_decay": FloatDistribution(1e-5, 1e-2, log=True),
        "batch_size": CategoricalDistribution([32, 64, 128]),
        "label_smoothing": FloatDistribution(0.0, 0.2),
        "schedule": CategoricalDistribution(["cosine", "one_cycle"]),
    },
    submission="label",
    metric="valid_acc",
    num_samples=16,
    reference="test accuracy 0.97 to 0.99",
)
