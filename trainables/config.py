"""Every knob of a trial: type, unit, bounds, default. The defaults are the course notes' numbers.

A wrong type, range or name raises pydantic's ValidationError (a ValueError).
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass

from trainables.backbones.specs import SIZES, checked_backbone, checked_weights
from trainables.files import size_in_bytes

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)


@dataclasses.dataclass(frozen=True)
class Unit:
    """What a knob's numbers count, for `resnet-tune show`."""

    name: str


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainConfig:
    """The knobs that all tasks have."""

    batch_size: Annotated[int, Field(ge=1), Unit("images")] = 128
    """Images in a training step. An epoch's last batch is smaller where it must be."""
    micro_batch_size: Annotated[int, Field(ge=0), Unit("images")] = 0
    """Images of a step that are in memory at once, their gradients added up; 0: the whole batch.
    Batch norms that are trained see so many at a time."""
    eval_batch_size: Annotated[int, Field(ge=1), Unit("images")] = 500
    """Images in an evaluation batch: speed and memory, not results."""
    num_epochs: Annotated[int, Field(ge=1), Unit("epochs")] = 20
    """Passes over the training images; also the length of the schedules."""
    lr: Annotated[Positive, Unit("factor")] = 0.1
    """Learning rate of SGD; the peak of the schedules that rise and fall."""
    momentum: Annotated[float, Field(ge=0, lt=1), Unit("share")] = 0.9
    """Momentum of SGD."""
    weight_decay: Annotated[NotNegative, Unit("factor")] = 5e-4
    """L2 coefficient, added to the gradient (so it acts in proportion to the learning rate)."""
    bias_lr: Annotated[float, Field(gt=0, le=1000), Unit("factor on lr")] = 1.0
    """Learning rate of biases and normalisation weights (all tensors with one dimension), as a
    factor on `lr`. Their weight decay is divided by it, so that they decay as at `lr`."""
    exclude_norm_decay: bool = False
    """No weight decay on biases and normalisation weights (all tensors with one dimension)."""
    nesterov: bool = False
    """Nesterov's momentum; the same as without where momentum is 0."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1), Unit("share")] = 0.0
    """Share of the target spread over all classes, in training only."""
    schedule: Literal["constant", "step", "cosine", "one_cycle"] = "constant"
    """How the learning rate moves; see schedule.py."""
    lr_period: Annotated[int, Field(ge=1), Unit("epochs")] = 10
    """Epochs between two steps of schedule `step`."""
    lr_decay: Annotated[float, Field(gt=0, le=1), Unit("factor")] = 0.1
    """Factor on the learning rate at each step of schedule `step`."""
    warmup: Annotated[float, Field(ge=0, lt=1), Unit("share of the epochs")] = 0.0
    """Share of the epochs in which the learning rate first rises from 0, under every schedule but
    `one_cycle`, which has its own rise."""
    flip_average: bool = False
    """Average predictions over the mirror image where nothing measured decides (`--tta auto`)."""
    seed: Annotated[int, Field(ge=0, lt=2**63), Unit("seed")] = 0
    """Seed of initial weights, order, augmentation and dropout."""
    num_folds: Annotated[int, Field(ge=0), Unit("folds")] = 0
    """Folds of the labelled images, one of which is `valid` (folds.py); 0: the prepared split."""
    fold: Annotated[int, Field(ge=0), Unit("fold, from 0")] = 0
    """Which of the folds is `valid`."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    """auto, cpu, cuda, cuda:N or mps; auto takes CUDA, else MPS, else the CPU."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the network's matrix products; auto measures what the device gains by, see device.py."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DigitsConfig(TrainConfig):
    """Knobs of task `digits`. No notes to follow: numbers that train well in some seconds."""

    batch_size: Annotated[int, Field(ge=1), Unit("images")] = 64
    num_epochs: Annotated[int, Field(ge=1), Unit("epochs")] = 12
    lr: Annotated[Positive, Unit("factor")] = 0.05
    schedule: Literal["constant", "step", "cosine", "one_cycle"] = "one_cycle"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    """Of the matrix products; the network is so small that casting costs more than it gains."""
    width: Annotated[int, Field(ge=8, le=512), Unit("channels")] = 32
    """Channels of the first stage, half the second's; with 4, torch 2.14 crashes on AVX2 alone."""
    margin: Annotated[int, Field(ge=0, le=4), Unit("pixels")] = 1
    """Random crops after padding with so many black pixels on each side; 0: none."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CifarConfig(TrainConfig):
    """Knobs of task `cifar10`; the notes' SGD, batch size and augmentation."""

    batch_size: Annotated[int, Field(ge=1), Unit("images")] = 256
    crop: Literal["pad", "reflect", "resize"] = "pad"
    """Random crops of the image's own size out of the image padded with black, with its own pixels
    reflected, or (an earlier variant of the notes) enlarged by the same `margin`."""
    margin: Annotated[int, Field(ge=0, le=16), Unit("pixels")] = 4
    """Pixels by which the image grows on each side before it is cropped; 0: no crop."""
    flip: bool = True
    """Mirror every second image at random."""
    alternate_flip: bool = False
    """With `flip`: mirror an image in every second epoch, not by chance in each."""
    whiten: bool = False
    """The first layer begins with filters that whiten the patches of the training images."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DogBreedConfig(TrainConfig):
    """Knobs of task `dog_breed`: a new head on a frozen (or partly unfrozen) ImageNet network."""

    num_epochs: Annotated[int, Field(ge=1), Unit("epochs")] = 20
    eval_batch_size: Annotated[int, Field(ge=1), Unit("images")] = 64
    lr: Annotated[Positive, Unit("factor")] = 0.03
    weight_decay: Annotated[NotNegative, Unit("factor")] = 1e-4
    schedule: Literal["constant", "step", "cosine", "one_cycle"] = "step"
    hidden: Annotated[int, Field(ge=0), Unit("units")] = 256
    """Units of the head's hidden layer; 0: a plain linear head."""
    dropout: Annotated[float, Field(ge=0, lt=1), Unit("share")] = 0.0
    """Share of the head's last inputs that is zeroed in training."""
    head_init: Literal["random", "imagenet"] = "random"
    """The plain linear head begins with random weights, or with the ImageNet classifier's own rows
    for the breeds (needs hidden=0 and weights with the classifier): an option to measure."""
    unfreeze: Annotated[int, Field(ge=0), Unit("stages")] = 0
    """Stages of the backbone, counted from its end, that are trained as well."""
    head_epochs: Annotated[int, Field(ge=0), Unit("epochs")] = 0
    """With `unfreeze`: the head alone is trained first, so many epochs besides `num_epochs`, on the
    stored features of the central crops; lr falls as a cosine (LP-FT, 2202.10054)."""
    backbone_lr: Annotated[float, Field(gt=0, le=10), Unit("factor on lr")] = 1.0
    """Learning rate of the unfrozen stages, as a factor on `lr`."""
    freeze_norms: bool = False
    """Normalisation layers of the unfrozen stages keep their weights and statistics."""
    cache_prefix: str = "auto"
    """Disk for what the stages before the unfrozen ones make of images and views, which is then
    computed once: a size (`5GB`), `none`, or `auto`: 20 GB if twice as much is free. Speed, not
    results. A setting of the study."""
    backbone: Annotated[str, AfterValidator(checked_backbone)] = "resnet34"
    """Classification model whose last layer is linear, of torchvision or `timm/NAME`; NAME@SIZE at
    an image size of its own; several joined by +, their features one after another."""
    weights: Annotated[str, AfterValidator(checked_weights)] = "imagenet"
    """`imagenet` (downloaded), a name such as IMAGENET1K_V1, `random`, or a .pth, .pt or
    .safetensors file; for one of several networks NAME:VALUE, separated by commas. A setting of the
    study."""
    image_size: Annotated[int, Field(ge=0, le=1024), Unit("pixels")] = 0
    """Side of the square crop; 0: what the weights were made for."""
    resize_ratio: Annotated[float, Field(ge=0, le=4, allow_inf_nan=False), Unit("factor")] = 0.0
    """Evaluation resizes the short side to so many times the crop; 0: as the weights were made
    (256/224, mostly). A setting of the study."""
    interpolation: Literal["weights", "bilinear", "bicubic"] = "weights"
    """How images are resized: as the weights were made, or so. A setting of the study."""
    normalise: Literal["weights", "imagenet", "half"] = "weights"
    """Mean and deviation of the pixels: as the weights were made, ImageNet's, or 0.5 and 0.5. A
    setting of the study."""
    num_views: Annotated[int, Field(ge=0), Unit("views")] = 0
    """Augmented views of each image; epoch e uses view (e - 1) mod num_views. 0: one an epoch. A
    setting of the study."""
    view_seed: Annotated[int, Field(ge=0, lt=2**63), Unit("seed")] = 0
    """Seed of the views. A setting of the study."""
    min_area: Annotated[float, Field(gt=0, le=1), Unit("share of the area")] = 0.08
    """Smallest share of the image's area that a random crop may have. A setting of the study."""
    jitter: Annotated[float, Field(ge=0, le=1), Unit("relative change")] = 0.4
    """Largest relative change of brightness, contrast and saturation. A setting of the study."""

    @model_validator(mode="after")
    def knobs_fit(self) -> DogBreedConfig:
        """The classifier's rows fit no hidden layer and one network; so does `unfreeze`."""
        if self.head_init == "imagenet" and self.hidden:
            raise ValueError(
                f"head_init=imagenet needs a plain linear head, not hidden={self.hidden}:"
                " set hidden=0 first"
            )
        if "+" in self.backbone and (self.unfreeze or self.head_init == "imagenet"):
            name = "unfreeze" if self.unfreeze else "head_init=imagenet"
            raise ValueError(f"{name} needs a single network, not backbone={self.backbone}")
        return self

    @field_validator("cache_prefix")
    @classmethod
    def known_size(cls, text: str) -> str:
        """One of the words, or a size."""
        if text not in ("auto", "none"):
            size_in_bytes(text)
        return text

    @field_validator("image_size")
    @classmethod
    def usable_size(cls, size: int) -> int:
        """No image is as small as that."""
        if size and size not in SIZES:
            raise ValueError(f"{size} pixels: use {SIZES[0]} to {SIZES[-1]}, or 0")
        return size


# Knobs of 0.1.0 that are no more: every training keeps a moving average of its weights now.
FORMER = frozenset({"weight_average"})


def known_knobs(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs of a recorded configuration, without those that only earlier versions had."""
    return {name: value for name, value in knobs.items() if name not in FORMER}


def recorded_knobs(config: TrainConfig, knobs: Mapping[str, Any]) -> dict[str, Any]:
    """All knobs of a configuration that an earlier version may have recorded, for `config`'s task.

    A knob that it did not know yet had in effect the default that the knob was given later, not the
    number that the study begins with today.
    """
    fields = dataclasses.fields(config)
    defaults = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
    return {**defaults, **known_knobs(knobs)}


def parse_setting(config: TrainConfig, setting: str) -> tuple[str, Any]:
    """`key=value` as the user types it -> the knob's name and its value in the knob's own type.

    Raises ValueError, in one line, for an unknown knob or a value of the wrong type or range.
    """
    key, sign, text = setting.partition("=")
    if not sign:
        raise ValueError(f"{setting}: write it as KEY=VALUE")
    names = [field.name for field in dataclasses.fields(config)]
    if key not in names:
        near = difflib.get_close_matches(key, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"knobs: {', '.join(names)}"
        raise ValueError(f"no knob {key!r}; {hint}")
    try:
        changed = dataclasses.replace(config, **{key: text})  # type: ignore[arg-type, unused-ignore]
    except ValidationError as error:
        what = error.errors()[0]["msg"].removeprefix("Value error, ")  # how pydantic begins ours
        raise ValueError(f"{key}={text}: {what}") from None
    return key, getattr(changed, key)
