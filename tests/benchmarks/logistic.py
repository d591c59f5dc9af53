"""Multinomial logistic regression on stored features: the convex head that backbones.py measures.

    minimise over W, b: mean cross-entropy of x (W0 + W) + b, plus l2 / 2 |W|^2

by full-batch L-BFGS (torch.optim.LBFGS, strong Wolfe), from strong to weak L2, each from where the
one before it ended. W0 is nothing, or the rows of the weights' own classifier (L2-SP, 1802.01483).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.dog_features import features_of
from trainables.data import TaskData
from trainables.features.source import FeatureSource

L2 = tuple(10 ** (-2 - step / 5) for step in range(32))  # 0.01 to 6e-9: 32 trials of one knob
ITERATIONS = 20  # of each
PATIENCE = 5  # worse ones in a row, then the rest of the path is not walked
TEMPERATURES = torch.logspace(-0.7, 0.7, 141)


@dataclass(frozen=True)
class Way:
    """What of the features is made."""

    views: int = 0
    """Besides the central crop."""
    standardise: bool = False
    """Each feature by its own mean and deviation, in place of each network's by one number."""


@dataclass(frozen=True)
class Scaling:
    """From features to what is fitted: a mean squared norm of about one."""

    mean: Tensor
    factor: Tensor

    @classmethod
    def of(cls, source: FeatureSource, way: Way) -> Scaling:
        """By the central crops of these images."""
        crops = inputs_of(source, Way())[0]
        if way.standardise:
            deviation = crops.std(0).clamp_min(1e-6)
            return cls(crops.mean(0), 1 / deviation / crops.shape[1] ** 0.5)
        factor = source.scale()
        return cls(torch.zeros(()), factor / (crops * factor).square().sum(1).mean().sqrt())

    def __call__(self, features: Tensor) -> Tensor:
        """The same shape."""
        return (features - self.mean) * self.factor


def inputs_of(source: FeatureSource, way: Way) -> tuple[Tensor, Tensor]:
    """Features (N, F) of the central crops and views, and their labels."""
    batches = list(source.eval_batches(500))
    for number in range(way.views):
        batches += source.train_batches(500, number + 1, 0)
    return torch.cat([inputs for inputs, _ in batches]), torch.cat(
        [labels for _, labels in batches]
    )


@dataclass
class Head:
    """(C, F) and (C,), and what is added to the logits before them: (F, C)."""

    weight: Tensor
    bias: Tensor
    towards: Tensor | None = None

    @classmethod
    def zero(cls, num_features: int, num_classes: int, towards: Tensor | None = None) -> Head:
        """Where the path begins."""
        return cls(torch.zeros(num_classes, num_features), torch.zeros(num_classes), towards)

    def logits(self, inputs: Tensor) -> Tensor:
        """(N, C)."""
        weight = self.weight if self.towards is None else self.weight + self.towards
        return torch.addmm(self.bias, inputs, weight.T)

    def fit(self, inputs: Tensor, labels: Tensor, l2: float, iterations: int = ITERATIONS) -> None:
        """From where it is."""
        parameters = [self.weight.requires_grad_(True), self.bias.requires_grad_(True)]
        optimizer = torch.optim.LBFGS(
            parameters, max_iter=iterations, history_size=10, line_search_fn="strong_wolfe",
            tolerance_grad=1e-6,
        )  # fmt: skip

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = cross_entropy(self.logits(inputs), labels)
            loss = loss + l2 / 2 * self.weight.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        self.weight.requires_grad_(False)
        self.bias.requires_grad_(False)


def path(data: TaskData, way: Way, towards: Tensor | None) -> Iterator[tuple[float, float, Tensor]]:
    """Each L2 of the path, the validation loss under it, and the logits."""
    train, valid = features_of(data.train), features_of(data.valid)
    scaling = Scaling.of(train, way)
    inputs, labels = inputs_of(train, way)
    inputs = scaling(inputs)
    others, truth = inputs_of(valid, Way())
    others = scaling(others)
    head = Head.zero(inputs.shape[1], len(data.classes), scaled(towards, scaling))
    for l2 in L2:
        head.fit(inputs, labels, l2)
        logits = head.logits(others)
        yield l2, float(cross_entropy(logits, truth)), logits


def scaled(towards: Tensor | None, scaling: Scaling) -> Tensor | None:
    """Rows for features as they are -> the same for scaled ones."""
    return None if towards is None else towards / scaling.factor


@dataclass(frozen=True)
class Found:
    """Of one split."""

    log_loss: float
    accuracy: float
    tempered: float
    """Log loss under the temperature that the validation images want."""
    l2: float


def held_out(data: TaskData, out: FeatureSource, way: Way, towards: Tensor | None = None) -> Found:
    """The L2 that validates best, fitted once more to train and valid together; held-out images."""
    looks: list[tuple[float, float, Tensor]] = []
    for l2, loss, logits in path(data, way, towards):
        looks.append((loss, l2, logits))
        best = min(range(len(looks)), key=lambda number: looks[number][0])
        if len(looks) - 1 - best >= PATIENCE:
            break
    _, chosen, logits = looks[best]
    truth = inputs_of(features_of(data.valid), Way())[1]
    temperature = min(TEMPERATURES, key=lambda t: float(cross_entropy(logits / t, truth)))
    everything = features_of(data.train_valid)
    scaling = Scaling.of(everything, way)
    inputs, labels = inputs_of(everything, way)
    inputs = scaling(inputs)
    head = Head.zero(inputs.shape[1], len(data.classes), scaled(towards, scaling))
    for l2 in (100 * chosen, 10 * chosen, chosen):
        head.fit(inputs, labels, l2, 100)
    others, truth = inputs_of(out, Way())
    logits = head.logits(scaling(others))
    return Found(
        float(cross_entropy(logits, truth)),
        float((logits.argmax(1) == truth).float().mean()),
        float(cross_entropy(logits / temperature, truth)),
        chosen,
    )


def fewer(data: TaskData, each: int) -> TaskData:
    """With the first `each` training images of each class; `train_valid` are these and `valid`."""
    train = features_of(data.train)
    labels = train.labels[train.rows]
    kept = torch.cat([train.rows[labels == label][:each] for label in labels.unique()])
    both = torch.cat([kept, features_of(data.valid).rows])
    return dataclasses.replace(
        data,
        train=dataclasses.replace(train, rows=kept),
        train_valid=dataclasses.replace(features_of(data.train_valid), rows=both),
    )
