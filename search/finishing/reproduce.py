"""A trial run again from the ledger alone, and whether its curve came out the same."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from search.console import notice
from search.errors import UsageError
from search.finishing.choice import trial_config
from search.finishing.members import Track
from search.records.ledger import METRICS
from search.records.sealed import told
from search.records.search import Search
from search.records.versions import versions
from search.study.study import Study
from trainables.config import TrainConfig
from trainables.device import PRECISIONS
from trainables.loop import Metrics, describe, fit
from trainables.state import TrainState

FACTS = ("device", "precision", "threads", "num_parameters")
COMPARED = tuple(name for name in METRICS if name != "seconds")


@dataclass(frozen=True)
class Difference:
    """Of one metric: the largest over the epochs, and where that is."""

    metric: str
    largest: float
    """Infinite where one of the two is not finite."""
    epoch: int

    def __str__(self) -> str:
        return f"{self.metric} by up to {self.largest:.2g} (epoch {self.epoch})"


@dataclass(frozen=True)
class Reproduction:
    """What came out."""

    trial_id: str
    epochs: int
    differences: tuple[Difference, ...]
    """None where all metrics of all epochs are the same, bit for bit."""
    changes: tuple[str, ...]
    """What is not as it was: versions, and how the trial computes."""

    @property
    def same(self) -> bool:
        """Whether the curve came out the same."""
        return not self.differences

    def __str__(self) -> str:
        if self.same:
            text = f"{self.trial_id}: the same, bit for bit, in all {self.epochs} epochs"
        else:
            parts = ", ".join(map(str, self.differences))
            text = f"{self.trial_id}: not the same in {self.epochs} epochs: {parts}"
        reason = "; ".join(self.changes) or "versions, device, precision and threads are as then"
        return f"{text}; {reason}"


def reproduce(
    search: Search, study: Study, data_dir: Path, trial_id: str, track: Track
) -> Reproduction:
    """Run the trial again, in this process, for the epochs that it had.

    With the threads and the precision that it had, where this machine has them. Raises UsageError
    for a trial that is not there or has no epoch, UserError for a configuration that is not of this
    version.
    """
    for fault in told(search.damage):
        notice(f"{fault}; the trial is compared with what is left of it")
    record = search.records.get(trial_id)
    if record is None:
        raise UsageError(
            f"--trial {trial_id}: no such trial; see `resnet-tune trials {search.path}`"
        )
    if not record.epochs:
        raise UsageError(f"--trial {trial_id} has no epoch to compare ({record.status})")
    config = trial_config(search, study, trial_id)
    with threads(record.facts.get("threads")):
        data = study.trainables.load_data(data_dir, config)
        config = with_precision(config, record.facts.get("precision"))
        state = study.trainables.start(config, data)
        epochs = fit(state, data.train, data.valid, config, search.metric)
        curve = run(epochs, record.epochs, f"{trial_id} again", track)
        changes = (*changed_versions(search.info.versions), *changed_facts(record.facts, state))
    return Reproduction(trial_id, record.epochs, compare(record.history, curve), changes)


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """So many threads of torch in the block: sums over threads depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(count or before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def with_precision(config: TrainConfig, recorded: Any) -> TrainConfig:
    """The precision that `auto` came to, which may be another one here."""
    if config.precision != "auto" or recorded not in PRECISIONS:
        return config
    return dataclasses.replace(config, precision=recorded)


def run(
    epochs: Iterator[Metrics], count: int, description: str, track: Track
) -> dict[int, Metrics]:
    """The metrics of the first epochs, by their number."""
    curve: dict[int, Metrics] = {}
    for row in track(epochs, count, description):
        curve[int(row["epoch"])] = row
        if len(curve) == count:
            break
    return curve


def compare(
    recorded: Mapping[int, Mapping[str, float]], found: Mapping[int, Mapping[str, float]]
) -> tuple[Difference, ...]:
    """Each metric that is not the same in all recorded epochs; older versions had fewer."""
    known = {name for row in recorded.values() for name in row}
    differences = []
    for name in (name for name in COMPARED if name in known):
        each = [
            (difference(row.get(name, math.nan), found.get(epoch, {}).get(name, math.nan)), epoch)
            for epoch, row in sorted(recorded.items())
        ]
        largest, epoch = max(each, key=lambda pair: pair[0])
        if largest:
            differences.append(Difference(name, largest, epoch))
    return tuple(differences)


def difference(one: float, other: float) -> float:
    """Of two numbers; 0 for the same, infinite where only one is not finite."""
    if one == other or not (math.isfinite(one) or math.isfinite(other)):
        return 0.0
    return abs(one - other) if math.isfinite(one) and math.isfinite(other) else math.inf


def changed_versions(recorded: Mapping[str, str]) -> Iterator[str]:
    """Each package of another version than then."""
    for name, here in versions().items():
        if name in recorded and recorded[name] != here:
            yield f"{name} {here}, then {recorded[name]}"


def changed_facts(recorded: Mapping[str, Any], state: TrainState) -> Iterator[str]:
    """Each way in which the trial computes otherwise than then."""
    here = describe(state)
    for name in FACTS:
        if name in recorded and recorded[name] != here[name]:
            yield f"{name} {here[name]}, then {recorded[name]}"
