"""Study `dog_breed`: Kaggle's 120 breeds, a new head on a frozen ImageNet backbone; log loss.

resnet-tune run dog_breed --source ~/Downloads/dog-breed-identification
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

import trainables.dog_breed
from data_prep.dog_breed import LAYOUT
from search.space import When
from search.study import Study

STUDY = Study(
    task="dog_breed",
    layout=LAYOUT,
    trainables=trainables.dog_breed,
    config=trainables.dog_breed.CONFIG,
    space={
        "lr": FloatDistribution(1e-3, 0.3, log=True),
        "momentum": FloatDistribution(0.8, 0.98),
        "weight_decay": FloatDistribution(1e-6, 1e-2, log=True),
        "batch_size": CategoricalDistribution([64, 128, 256]),
        "hidden": CategoricalDistribution([0, 256, 512]),
        "dropout": FloatDistribution(0.0, 0.8),
        "label_smoothing": FloatDistribution(0.0, 0.2),
        "schedule": CategoricalDistribution(["step", "cosine", "one_cycle"]),
        "lr_period": When("schedule", ("step",), IntDistribution(2, 15)),
        "lr_decay": When("schedule", ("step",), FloatDistribution(0.05, 0.9, log=True)),
    },
    submission="probabilities",
    metric="valid_loss",
    num_samples=64,
    reference="mobilenet_v2, all images: log loss 0.60 with the notes' head, 0.53 with none",
    caveat="the dogs are a subset of ImageNet: an ImageNet backbone has seen many of these images",
)
