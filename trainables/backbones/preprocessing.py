"""How an image comes to a network's input: as that of its weights was trained, or as told."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torchvision.models import get_model_weights

from data_prep.files import from_json
from trainables.backbones.networks import SAVED, file_of, published, timm_settings
from trainables.backbones.specs import TIMM, name_and_size, parts
from trainables.config import DogBreedConfig

# Of the images that most networks were trained on; torchvision's own transforms use these numbers.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
KEY = "preprocessing"  # in the metadata of a saved model


@dataclass(frozen=True)
class Preprocessing:
    """From an image of any size to one network's input."""

    size: int
    """Side of the square crop in pixels."""
    eval_ratio: float
    """In evaluation the short side is resized to so many times `size`, and the centre cut out."""
    interpolation: str
    """`bilinear` or `bicubic`, both with antialiasing."""
    mean: tuple[float, ...]
    """Of each channel, in 0 to 1."""
    std: tuple[float, ...]


# Of every network, before they had their own: a model that was retrained then has nothing else.
FORMER = Preprocessing(224, 256 / 224, "bilinear", IMAGENET_MEAN, IMAGENET_STD)


def preprocessing(config: DogBreedConfig) -> Preprocessing:
    """That of one network (`specs.parts`): its weights' own, changed where the knobs say so.

    Raises ValueError for weights that the network does not have, and where its size is fixed.
    """
    found, fixed = own_preprocessing(config)
    size = name_and_size(config.backbone)[1] or config.image_size or found.size
    if fixed and size != found.size:
        raise ValueError(f"backbone={config.backbone} takes images of {found.size} pixels only")
    found = replace(found, size=size)
    if config.resize_ratio:
        found = replace(found, eval_ratio=config.resize_ratio)
    if config.interpolation != "weights":
        found = replace(found, interpolation=config.interpolation)
    if config.normalise != "weights":
        by_name = {"imagenet": (IMAGENET_MEAN, IMAGENET_STD), "half": (HALF, HALF)}
        mean, std = by_name[config.normalise]
        found = replace(found, mean=mean, std=std)
    return found


def preprocessings(config: DogBreedConfig) -> tuple[Preprocessing, ...]:
    """Those of all networks of a backbone, each once."""
    return tuple(dict.fromkeys(preprocessing(part) for part in parts(config)))


def own_preprocessing(config: DogBreedConfig) -> tuple[Preprocessing, bool]:
    """What the weights of one network were made for, and whether no other size will do."""
    name = name_and_size(config.backbone)[0]
    path = file_of(config.weights)
    saved = saved_preprocessing(path, config.backbone) if path else None
    if saved is not None:
        return saved, False
    if name.startswith(TIMM):
        return of_timm(timm_settings(name, config.weights))
    return of_torchvision(name, config.weights), False


def of_torchvision(name: str, weights: str) -> Preprocessing:
    """By torchvision's own transforms of the weights.

    Those of a file are told by its name (resnet34-333f7ec4.pth); any other file's and random ones
    are taken for the first that were published.
    """
    path = file_of(weights)
    if path is None and weights != "random":
        chosen = published(name, weights)
    else:
        known: list[Any] = list(get_model_weights(name))
        same = [w for w in known if path and w.url.rpartition("/")[2] == path.name]
        chosen = (same or known)[0]
    transforms = chosen.transforms()
    crop, resize = transforms.crop_size[0], transforms.resize_size[0]
    return Preprocessing(
        crop,
        resize / crop,
        transforms.interpolation.value,
        tuple(transforms.mean),
        tuple(transforms.std),
    )


def of_timm(settings: Any) -> tuple[Preprocessing, bool]:
    """By timm's PretrainedCfg; and whether the network takes images of that size only."""
    interpolation = "bicubic" if settings.interpolation == "bicubic" else "bilinear"
    found = Preprocessing(
        settings.input_size[-1],
        1 / settings.crop_pct,
        interpolation,
        tuple(settings.mean),
        tuple(settings.std),
    )
    return found, bool(settings.fixed_input_size)


def saved_preprocessing(path: Path, part: str) -> Preprocessing | None:
    """A network's, as a retrained model's file says; None for other files."""
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as file:
            told, names = file.metadata() or {}, file.keys()
        if KEY not in told:
            retrained = any(name.startswith(SAVED) for name in names)
            return FORMER if retrained else None
        entry = from_json(told[KEY])[part]
        return Preprocessing(**{**entry, "mean": tuple(entry["mean"]), "std": tuple(entry["std"])})
    except (OSError, SafetensorError, ValueError, TypeError, KeyError):
        return None  # whoever loads the tensors says what is wrong with the file


def saved_metadata(config: DogBreedConfig) -> dict[str, str]:
    """The metadata from which `saved_preprocessing` reads them."""
    return {KEY: json.dumps({part.backbone: asdict(preprocessing(part)) for part in parts(config)})}
