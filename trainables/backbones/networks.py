"""Making pretrained networks: torchvision's and timm's, without their last layer."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model, get_model_weights

from trainables.backbones.specs import TIMM, label, name_and_size, require_timm
from trainables.backbones.weights import fill, read_weights

SAVED = "backbone."  # how the backbone's tensors are named in a saved FineTuned


def load_backbone(part: str, weights: str) -> tuple[nn.Module, int]:
    """A network with its last layer removed, and the number of its features.

    `part`: `NAME` or `NAME@SIZE`, of torchvision or `timm/`. `weights`: `imagenet` (downloaded),
    the name of published weights, `random`, or the path of a file, which may lack the last layer,
    or hold a whole retrained model. Raises ValueError when the model does not end in a linear
    layer, or the weights cannot be had or are not this model's.
    """
    name = name_and_size(part)[0]
    path = file_of(weights)
    network = make_network(name, None if path or weights == "random" else weights)
    place, last = last_layer(network, name)
    network.set_submodule(place, nn.Identity())
    if path:
        tensors = read_weights(path)
        kept = saved_in(tensors, part) or {
            k: v for k, v in tensors.items() if not k.startswith(f"{place}.")
        }
        fill(network, kept, f"weights={weights} are not those of backbone={part}")
    return network, last.in_features


def saved_in(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """The part's tensors in a whole retrained model, alone or joined; none in any other file."""
    for prefix in (f"{SAVED}parts.{label(part)}.", SAVED):
        found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if found:
            return found
    return {}


def load_classifier(part: str, weights: str) -> tuple[Tensor, Tensor]:
    """Weight (classes, F) and bias of the last layer that `load_backbone` removes.

    Raises ValueError when the weights have none.
    """
    name, path = name_and_size(part)[0], file_of(weights)
    if not path and weights != "random":
        last = last_layer(make_network(name, weights), name)[1]
        return last.weight, last.bias
    tensors = read_weights(path) if path else {}
    place = last_name(part)
    try:
        return tensors[f"{place}.weight"], tensors[f"{place}.bias"]
    except KeyError as error:
        raise ValueError(f"weights={weights} hold no classifier ({error.args[0]})") from None


def last_name(part: str) -> str:
    """What the library calls the last layer of this model."""
    name = name_and_size(part)[0]
    return last_layer(make_network(name, None), name)[0]


def last_layer(network: nn.Module, name: str) -> tuple[str, nn.Linear]:
    """A classification network's last layer and its name. Raises ValueError if it is not linear.

    timm says where it is; elsewhere it is what comes last.
    """
    settings = getattr(network, "pretrained_cfg", None)
    if settings is None:
        place, last = list(network.named_modules())[-1]
    else:
        place = settings.get("classifier")
        last = network.get_submodule(place) if isinstance(place, str) else nn.Identity()
    if not isinstance(last, nn.Linear):
        raise ValueError(f"backbone={name} ends in {type(last).__name__}, not in a linear layer")
    return place, last


def make_network(name: str, weights: str | None) -> nn.Module:
    """A whole network with published weights, from a cache or downloaded, or with random ones."""
    if name.startswith(TIMM):
        return make_timm(name, weights)
    if weights is None:
        network: nn.Module = get_model(name, weights=None)
        return network
    chosen = published(name, weights)
    try:
        network = get_model(name, weights=chosen, progress=False)
        return network
    except OSError as error:  # urllib's errors are OSErrors
        raise no_download(name, weights, error) from None
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        file = Path(torch.hub.get_dir(), "checkpoints", chosen.url.rpartition("/")[2])
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"weights={weights}: {file} cannot be read ({reason}); delete it, and it is downloaded"
            " again"
        ) from None


def make_timm(name: str, weights: str | None) -> nn.Module:
    """As `make_network`, of timm's."""
    require_timm(name)
    import timm

    if weights is None:
        network: nn.Module = timm.create_model(name.removeprefix(TIMM))
        return network
    settings = timm_settings(name, weights)
    tagged = f"{settings.architecture}.{settings.tag}" if settings.tag else settings.architecture
    try:
        network = timm.create_model(tagged, pretrained=True)
        return network
    except (OSError, RuntimeError) as error:  # the hub's errors are OSErrors; without weights
        raise no_download(name, weights, error) from None


def no_download(name: str, weights: str, error: Exception) -> ValueError:
    """The error where published weights cannot be had."""
    reason = str(error).strip().split("\n")[0]
    return ValueError(
        f"weights={weights}: cannot download {name} ({reason}); give a file instead:"
        " --set weights=PATH"
    )


def published(name: str, weights: str) -> WeightsEnum:
    """torchvision's weights of that name; `imagenet` are those that it thinks best.

    Raises ValueError for a name that the model does not have.
    """
    known: Any = get_model_weights(name)
    if weights == "imagenet":
        return known.DEFAULT
    if weights not in known.__members__:
        raise ValueError(
            f"weights={weights}: torchvision's {name} has {', '.join(w.name for w in known)}"
        )
    return known[weights]


def timm_settings(name: str, weights: str) -> Any:
    """timm's PretrainedCfg of the weights of that tag, or of its own choice.

    Raises ValueError for a tag that the model does not have.
    """
    require_timm(name)
    import timm

    plain, dot, tag = name.removeprefix(TIMM).partition(".")
    if file_of(weights) is None and weights not in ("imagenet", "random"):
        tag = weights
    try:
        return timm.get_pretrained_cfg(f"{plain}.{tag}" if tag else plain, allow_unregistered=False)
    except (RuntimeError, ValueError):
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{plain}.*")]
        raise ValueError(f"weights={tag}: timm's {plain} has {', '.join(tags)}") from None


def file_of(weights: str) -> Path | None:
    """The weights' file; None for those that have a name."""
    path = Path(weights)
    return path if path.is_absolute() else None


def weights_of(part: str, weights: str) -> str:
    """Which weights these are, said so that nothing is left to a library's default."""
    name, path = name_and_size(part)[0], file_of(weights)
    if path is not None:
        return path.name
    if weights == "random":
        return weights
    if name.startswith(TIMM):
        settings = timm_settings(name, weights)
        return str(settings.tag or settings.architecture)
    return str(published(name, weights).name)
