"""The retrained model in a file for others, checked against itself, with a card beside it."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_prep.decode_files import as_arrays, decode_usable
from data_prep.files import clear_parts, one_writer, replacing
from data_prep.pack import ImageArrays
from search.errors import UsageError, UserError
from search.files import read_json, told_if_full
from search.finishing.calibrate import recorded_temperature
from search.finishing.export_formats import FORMATS, INPUT, OUTPUT, Format, logits
from search.finishing.inputs import METADATA
from search.finishing.retrained import Averaged, Loaded, averaged_over, load_models
from search.records.versions import now, versions
from search.study.study import Study
from search.text import named
from trainables.config import TrainConfig
from trainables.features.views import EVAL_RATIO

TOLERANCE = 1e-4  # of the largest logit, or of 1 where that is smaller
CHECKED = 8  # images
PARTS = {"test": "test/unknown/*", "valid": "valid/*/*"}


@dataclass(frozen=True)
class Exported:
    """What was written, and how near it is to the model."""

    path: Path
    difference: float
    """Largest, of the logits of `images`."""
    images: str


def export(
    search_dir: Path,
    study: Study,
    data_dir: Path | None,
    images_dir: Path,
    format_name: str,
    out: Path,
) -> Exported:
    """Write `out`/model.* and its card, both or neither.

    `data_dir` as `load_retrained` takes it; the check takes images of the prepared folder
    `images_dir` where it has any. Raises UsageError for an unknown format, UserError where the
    format's packages are missing, the model cannot be written in it, or the file says otherwise.
    """
    chosen = known_format(format_name)
    plainly = {"device": "cpu", "precision": "float32"}
    models = load_models(search_dir, study, data_dir, plainly)
    config, data = models[0].config, models[0].data
    arrays, said = some_images(study, images_dir)
    images = same_images(study, arrays, models)
    wanted = logits(together([each.state.model for each in models], models), images)
    plain = [plain_network(study, each.state.model.eval(), each.config) for each in models]
    network = together([network for network, _ in plain], models)
    lines = plain[0][1] if len(models) == 1 else []
    path = out / f"model.{chosen.suffix}"
    with both(path) as (aside, card):
        write(chosen, format_name, network, images, aside)
        difference = check(format_name, chosen.run(network, images, aside), wanted)
        content = describe(search_dir, study, data, config, images)
        content |= {
            "format": format_name,
            "sha256": hashlib.sha256(aside.read_bytes()).hexdigest(),
            "python": lines if format_name == "safetensors" else [],
            "largest_difference": difference,
            "checked": said,
        }
        card.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Exported(path, difference, said)


def same_images(study: Study, arrays: ImageArrays, models: Sequence[Loaded]) -> Tensor:
    """A batch as the models take it. Raises UserError where they do not take the same."""
    batches: list[Tensor] = []
    for each in models:
        source = study.trainables.images_data(arrays.pixels, arrays.shapes, each.data, each.config)
        batches.append(next(iter(source.eval_batches(CHECKED)))[0].contiguous())
    if not all(torch.equal(batch, batches[0]) for batch in batches):
        raise UserError(
            "the members of this ensemble take images that are prepared in different ways, which"
            " one file cannot; retrain without --ensemble to export a model"
        )
    return batches[0]


def together(networks: Sequence[nn.Module], models: Sequence[Loaded]) -> nn.Module:
    """The networks as one."""
    frozen = [network.eval().requires_grad_(False) for network in networks]
    return frozen[0] if len(frozen) == 1 else Averaged(frozen, [each.weight for each in models])


def known_format(name: str) -> Format:
    """The format. Raises UsageError for another, UserError where its packages are missing."""
    if name not in FORMATS:
        raise UsageError(f"--format {name}: use {', '.join(FORMATS)}")
    lacking = [p for p in FORMATS[name].packages if importlib.util.find_spec(p) is None]
    if lacking:
        raise UserError(
            f"--format {name} needs {', '.join(lacking)}: pip install 'resnet-tune[export]'"
        )
    return FORMATS[name]


def plain_network(
    study: Study, model: nn.Module, config: TrainConfig
) -> tuple[nn.Module, list[str]]:
    """The network under the names that others know, and the lines that load them.

    A task whose `trainables` have no `plain_network` keeps its own names, without such lines.
    """
    rename = getattr(study.trainables, "plain_network", None)
    if rename is None:
        return model, []
    network, lines = rename(model, config)
    loading = 'model.load_state_dict(safetensors.torch.load_file("model.safetensors"))'
    return network.eval(), [*lines, loading]


def some_images(study: Study, root: Path) -> tuple[ImageArrays, str]:
    """A few decoded images, and which they are: of `test`, else of `valid`, else random ones."""
    for part, pattern in PARTS.items():
        files = list(itertools.islice(sorted(root.glob(pattern)), CHECKED))
        arrays, unusable = decode_usable(files, study.layout)
        if len(files) > len(unusable):
            return arrays, f"{len(files) - len(unusable)} images of {part}"
    side = study.layout.image_size or study.layout.short_side or 0
    pixels = np.random.default_rng(0).integers(0, 256, (CHECKED, side, side, 3), dtype=np.uint8)
    return as_arrays(list(pixels), study.layout), f"{CHECKED} random images"


@contextmanager
def both(path: Path) -> Iterator[tuple[Path, Path]]:
    """Where to write a file and its card; both take their places at the end, the file first."""
    with one_writer(path.parent):  # a library that writes the file may put another in its place
        clear_parts(path.parent, path.name)
        with replacing(path.with_name(f"{path.name}.json")) as card, replacing(path) as aside:
            yield aside, card


def write(chosen: Format, name: str, network: nn.Module, images: Tensor, path: Path) -> None:
    """Raises UserError, one line, where the format's writer cannot."""
    try:
        with told_if_full(path):
            chosen.write(network, images, path)
    except OSError:  # a full disk
        raise
    except Exception as error:  # exporters raise whatever they like
        raise UserError(f"this model cannot be exported as {name}: {named(error)}") from error


def check(name: str, found: Tensor, wanted: Tensor) -> float:
    """The largest difference between the file's logits and the model's own.

    Raises UserError where it is larger than TOLERANCE.
    """
    difference = (found - wanted).abs().max().item()
    allowed = TOLERANCE * max(1.0, wanted.abs().max().item())
    if not difference <= allowed:
        raise UserError(
            f"the {name} file's logits differ by {difference:.2g} from the retrained model's"
            f" (allowed: {allowed:.2g}): nothing is written; try another --format"
        )
    return difference


def describe(
    search_dir: Path, study: Study, data: Any, config: TrainConfig, images: Tensor
) -> dict[str, Any]:
    """What the card says of the model, whatever its format."""
    metadata = read_json(search_dir / METADATA)
    kept = ("task", "trial_id", "chosen", "epochs", "fingerprint", "caveat", "score", "git_commit")
    return {
        **{key: metadata.get(key) for key in kept},
        "classes": list(data.classes),
        "input": {
            "name": INPUT,
            "shape": ["N", *images.shape[1:]],
            "dtype": "float32",
            "colours": "RGB",
            "range": [0.0, 1.0],
            "mean": list(data.mean),
            "std": list(data.std),
            **describe_size(study, config, int(images.shape[-1])),
        },
        "output": {
            "name": OUTPUT,
            "shape": ["N", len(data.classes)],
            "then": "softmax of the logits divided by `temperature`",
            "temperature": recorded_temperature(search_dir),
        },
        "members": metadata.get("members"),
        "averaged_over": list(averaged_over(search_dir, config)),
        "created": now(),
        "versions": versions(),
        "retrained_versions": metadata.get("versions"),
    }


def describe_size(study: Study, config: TrainConfig, side: int) -> dict[str, Any]:
    """How an image comes to the network's size; all resizing has antialiasing."""
    square, short = study.layout.image_size, study.layout.short_side
    if square is not None:
        return {"resize": [square, square], "rule": f"resized to {square} x {square} pixels"}
    prepare = getattr(study.trainables, "preprocessings", None)
    if prepare is None:
        ways = [describe_way(side, EVAL_RATIO, "bilinear")]
    else:
        ways = [describe_way(w.size, w.eval_ratio, w.interpolation) for w in prepare(config)]
    shrunk = {"shrink_short_side": short}
    first = f"short side shrunk to {short} pixels where it is longer, then "
    if len(ways) == 1:
        return {**shrunk, **ways[0], "rule": first + ways[0]["rule"]}
    channels = "each in three channels more, in the upper left corner of the largest: "
    rules = first + channels + "; ".join(way["rule"] for way in ways)
    return {**shrunk, "ways": ways, "rule": rules}


def describe_way(size: int, ratio: float, interpolation: str) -> dict[str, Any]:
    """One way to prepare an image whose short side is no longer than the study has it."""
    wanted = round(size * ratio)
    return {
        "resize_short_side": wanted,
        "interpolation": interpolation,
        "centre_crop": size,
        "rule": f"resized to {wanted} ({interpolation}); the central {size} x {size} pixels",
    }
