"""Study `cifar10`: Kaggle's CIFAR-10, ResNet-18 from scratch.

Trial 0 runs the notes' numbers, trial 1 `RECIPE` (trainables/cifar10.py).

    resnet-tune run cifar10 --source ~/Downloads/cifar-10

What to expect of all 50,000 images on one GPU: 0.937 valid accuracy after 20 epochs of `RECIPE` in
batches of 256 with lr 0.2, 0.916 of the notes' numbers by their moving average (measured on an H200
with 45,000 / 5,000 images, 0.9 s an epoch). PyTorch Lightning's tutorial "CIFAR10 ~94% Baseline"
has 0.93 to 0.94 test accuracy after 30 epochs of the same network; 200 epochs of the like reach
0.954 (github.com/kuangliu/pytorch-cifar).
"""

from dataclasses import asdict, replace

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

import trainables.cifar10
from data_prep.cifar10 import LAYOUT
from search.study import Study, When

STUDY = Study(
    task="cifar10",
    layout=LAYOUT,
    trainables=trainables.cifar10,
    # Averaging over the mirror image changes the final prediction only, no trial's validation.
    config=replace(trainables.cifar10.CONFIG, flip_average=True),
    space={
        "lr": FloatDistribution(0.01, 0.5, log=True),
        "momentum": FloatDistribution(0.8, 0.98),
        "nesterov": CategoricalDistribution([False, True]),
        "weight_decay": FloatDistribution(1e-5, 5e-3, log=True),
        "exclude_norm_decay": CategoricalDistribution([False, True]),
        "bias_lr": FloatDistribution(1.0, 64.0, log=True),
        "whiten": CategoricalDistribution([False, True]),
        "crop": CategoricalDistribution(["pad", "reflect"]),
        "alternate_flip": CategoricalDistribution([False, True]),
        "batch_size": CategoricalDistribution([64, 128, 256, 512]),
        "label_smoothing": FloatDistribution(0.0, 0.2),
        "schedule": CategoricalDistribution(["constant", "step", "cosine", "one_cycle"]),
        "lr_period": When("schedule", ("step",), IntDistribution(3, 15)),
        "lr_decay": When("schedule", ("step",), FloatDistribution(0.05, 0.5, log=True)),
    },
    submission="label",
    metric="valid_acc",
    num_samples=32,
    points_to_evaluate=(asdict(trainables.cifar10.RECIPE),),
    reference="0.937 valid with all images after 20 epochs (one H200)",
)
