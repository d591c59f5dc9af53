"""Study `images`: any folder of labelled images, by the size that they have.

STUDY is for large images: a linear head on a frozen ImageNet network. SMALL, for images of at most
64 pixels, trains ResNet-18 from scratch. Trial 0 runs numbers that did well on photographs of dogs
and on CIFAR-10. The data set's name is that of its folder, or --dataset NAME.

    resnet-tune run images --source ~/birds     # afterwards the TASK is images-birds
"""

from dataclasses import replace

from optuna.distributions import CategoricalDistribution, FloatDistribution

import trainables.cifar10
import trainables.images
from data_prep.any_images import LAYOUT
from search.study import Study

EXPECTED = "not known before, it goes by the images; trial 0 is the number to beat"
SMALL = Study(
    task="images",
    layout=LAYOUT,
    trainables=trainables.cifar10,
    config=replace(trainables.cifar10.RECIPE, batch_size=64, lr=0.05, flip_average=False),
    space={
        "lr": FloatDistribution(0.01, 0.5, log=True),
        "momentum": FloatDistribution(0.8, 0.98),
        "weight_decay": FloatDistribution(1e-5, 5e-3, log=True),
        "batch_size": CategoricalDistribution([32, 64, 128]),
        "label_smoothing": FloatDistribution(0.0, 0.2),
        "schedule": CategoricalDistribution(["cosine", "one_cycle"]),
        # What a mirror or a shift leaves as it is depends on the classes: letters it changes.
        "flip": CategoricalDistribution([False, True]),
        "margin": CategoricalDistribution([0, 2, 4]),
    },
    submission="label",
    num_samples=32,
    trains="ResNet-18 from scratch",
    reference=EXPECTED,
)
STUDY = Study(
    task="images",
    layout=LAYOUT,
    trainables=trainables.images,
    config=trainables.images.CONFIG,
    space={
        "lr": FloatDistribution(1e-3, 0.3, log=True),
        "momentum": FloatDistribution(0.8, 0.98),
        "weight_decay": FloatDistribution(1e-6, 1e-2, log=True),
        "batch_size": CategoricalDistribution([32, 64, 128]),
        "hidden": CategoricalDistribution([0, 256]),
        "dropout": FloatDistribution(0.0, 0.8),
        "label_smoothing": FloatDistribution(0.0, 0.2),
        "schedule": CategoricalDistribution(["cosine", "one_cycle"]),
    },
    submission="label",
    num_samples=32,
    trains="a head on a frozen ImageNet network",
    reference=EXPECTED,
    caveat="where the images are like ImageNet's, an ImageNet backbone may have seen some of them",
    small=SMALL,
)
