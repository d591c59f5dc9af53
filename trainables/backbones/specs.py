"""The knobs `backbone` and `weights` taken apart: `a+timm/b@320`, `a:FILE,timm/b:random`.

A part of a backbone is a configuration of its own, with one network and one kind of weights.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainables.config import DogBreedConfig

TIMM = "timm/"
PART = re.compile(r"((?:timm/)?[A-Za-z0-9_.]+)(?:@(\d+))?")
PUBLISHED = re.compile(r"[A-Za-z0-9_]+")  # what torchvision and timm call weights
SIZES = range(32, 1025)  # pixels


def split_backbone(text: str) -> list[str]:
    """The networks of a backbone, each `NAME` or `NAME@SIZE`."""
    return [part.strip() for part in text.split("+")]


def name_and_size(part: str) -> tuple[str, int]:
    """One network's name and image size; 0 where it says none."""
    found = PART.fullmatch(part)
    if found is None:
        raise ValueError(f"backbone {part!r}: write it as NAME or NAME@SIZE, several joined by +")
    return found[1], int(found[2] or 0)


def checked_backbone(text: str) -> str:
    """A backbone's names as they are kept. Raises ValueError, one line, for one that is unknown."""
    parts = split_backbone(text)
    for part in parts:
        name, size = name_and_size(part)
        if size and size not in SIZES:
            raise ValueError(f"backbone {part}: a size is between {SIZES[0]} and {SIZES[-1]}")
        check_name(name)
    if len(set(parts)) < len(parts):
        raise ValueError(f"backbone {text}: a network is named twice; give one another @SIZE")
    return "+".join(parts)


def check_name(name: str) -> None:
    """Raise ValueError unless torchvision, or timm where it is asked for, knows the name."""
    if name.startswith(TIMM):
        require_timm(name)
        import timm  # takes seconds

        if timm.is_model(name.removeprefix(TIMM)):
            return
        known, place = timm.list_models(), "timm has no model"
    else:
        from torchvision import models  # takes seconds

        known, place = models.list_models(module=models), "torchvision has no classification model"
    if name in known:
        return
    near = difflib.get_close_matches(name.removeprefix(TIMM), known, n=1)
    prefix = TIMM if name.startswith(TIMM) else ""
    hint = f"did you mean {prefix}{near[0]}?" if near else "for example resnet34 or mobilenet_v2"
    raise ValueError(f"{place} {name.removeprefix(TIMM)!r}; {hint}")


def require_timm(name: str) -> None:
    """Raise ValueError where timm is not installed."""
    if importlib.util.find_spec("timm") is None:
        raise ValueError(f"backbone {name} needs timm: pip install 'resnet-tune[timm]'")


def split_weights(text: str) -> dict[str, str]:
    """Which weights each network has; under an empty name those of all that are not named."""
    if Path(text).is_file():
        return {"": text}
    found: dict[str, str] = {}
    for item in text.split(","):
        name, colon, value = item.strip().partition(":")
        if not colon or not PART.fullmatch(name):
            name, value = "", item.strip()
        if name in found:
            raise ValueError(f"weights {text}: two for {name or 'all networks'}")
        found[name] = value
    return found


def checked_weights(text: str) -> str:
    """The weights with absolute paths: trials run in other folders.

    Raises ValueError for a file that is not there.
    """
    kept = []
    for name, value in split_weights(text).items():
        path = Path(value).expanduser().absolute()
        if path.is_file():
            value = str(path)
        elif not PUBLISHED.fullmatch(value):
            raise ValueError(
                f"no file {path}; give imagenet, random, a name such as IMAGENET1K_V1, or the path"
                " of a weights file"
            )
        kept.append(f"{name}:{value}" if name else value)
    return ",".join(kept)


def parts(config: DogBreedConfig) -> list[DogBreedConfig]:
    """A configuration for each network: its name, its weights and its image size (0: its own).

    Raises ValueError where `weights` say nothing of one of them.
    """
    given = split_weights(config.weights)
    found = []
    for part in split_backbone(config.backbone):
        name, size = name_and_size(part)
        weights = given.get(part, given.get(name, given.get("")))
        if weights is None:
            raise ValueError(
                f"weights={config.weights} say nothing of {part}: add {part}:FILE, or a value"
                " without a name for all others"
            )
        found.append(
            dataclasses.replace(
                config, backbone=part, weights=weights, image_size=size or config.image_size
            )
        )
    return found


def label(part: str) -> str:
    """A network's name as torch's modules may have it."""
    return re.sub(r"\W", "_", part)
