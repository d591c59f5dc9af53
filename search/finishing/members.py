"""The members of a recipe, trained; heads that can be merged come as one model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from search.finishing.choice import trial_config
from search.finishing.evidence import groups_of
from search.finishing.recipe import Member, Recipe
from search.records.search import Search
from search.study.study import Study
from trainables.config import TrainConfig
from trainables.loop import fit

Track = Callable[[Iterable[Any], int, str], Iterable[Any]]
Rows = list[dict[str, float]]


@dataclass(frozen=True)
class Trained:
    """A model to save, and the members that it is made of."""

    model: nn.Module
    config: TrainConfig
    """Of its first member."""
    data: Any
    members: tuple[Member, ...]
    rows: tuple[Rows, ...]
    """Each epoch's metrics, of each member."""

    @property
    def weight(self) -> float:
        """Its share of the prediction."""
        return sum(member.weight for member in self.members)


def train_members(
    search: Search, study: Study, data_dir: Path, recipe: Recipe, track: Track
) -> Iterator[Trained]:
    """One model after the other, as `mixture.py` groups them."""
    keys = {(member.trial_id, member.seed): member for member in recipe.members}
    groups = groups_of(search, study, list(keys))
    for group in dict.fromkeys(groups.values()):
        each = [
            train_member(search, study, data_dir, member, recipe.num_epochs, track)
            for key, member in keys.items()
            if groups[key] == group
        ]
        yield each[0] if len(each) == 1 else merged(study, each)


def merged(study: Study, each: list[Trained]) -> Trained:
    """One model of several, with the mean of their logits."""
    total = sum(one.weight for one in each)
    weights = [one.weight / total for one in each]
    model = study.trainables.merge([one.model for one in each], weights)
    members = tuple(member for one in each for member in one.members)
    rows = tuple(part for one in each for part in one.rows)
    return Trained(model, each[0].config, each[0].data, members, rows)


def train_member(
    search: Search,
    study: Study,
    data_dir: Path,
    member: Member,
    num_epochs: int | None,
    track: Track,
) -> Trained:
    """Train on `train_valid` for the member's epochs.

    Raises ValueError when the loss is not finite.
    """
    config = trial_config(search, study, member.trial_id, num_epochs, member.seed)
    data = study.trainables.load_data(data_dir, config)
    state = study.trainables.start(config, data)
    state.averaged = member.averaged  # there is no valid set to choose by
    rows: Rows = []
    epochs = fit(state, data.train_valid, None, config)
    for metrics in track(epochs, member.epochs, f"retraining {member.trial_id}"):
        rows.append(metrics)
        if not np.isfinite(metrics["train_loss"]):
            raise ValueError(
                f"retraining diverged at epoch {metrics['epoch']}; try another --trial"
            )
        if metrics["epoch"] >= member.epochs:
            break
    return Trained(state.model, config, data, (member,), (rows,))
