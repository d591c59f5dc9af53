"""What confirmed configurations predicted of images that they were not trained on, fold by fold.

Whatever is fitted to these predictions (a choice, a temperature, an ensemble) is judged on folds
that it was not fitted to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.digests import digest
from search.finishing.calibrate import LEAST, Floats
from search.records.folder import CONFIRM
from search.records.outcomes import predictions_path
from search.records.runs import Runs
from search.records.search import Search
from trainables.data import CENTRE
from trainables.outcomes import LOOK

Labels = NDArray[np.int64]
Key = tuple[str, int]
"""A trial of the search, and the seed above its own under which it was run again."""


@dataclass(frozen=True)
class Fold:
    """The images of one fold as a configuration saw them."""

    logits: Mapping[str, Floats]
    """Look at the images -> float32 (N, C)."""
    labels: Labels
    """(N,)."""

    @property
    def looks(self) -> tuple[str, ...]:
        """The looks besides the plain one."""
        return tuple(look for look in self.logits if look != CENTRE)

    def of(self, rows: slice) -> Fold:
        """Some of the images."""
        return Fold({look: each[rows] for look, each in self.logits.items()}, self.labels[rows])


def read_folds(found: Search, key: Key) -> dict[int, Fold]:
    """By fold, from 0; those are absent that were not run.

    Raises ValueError where a file is not as it was written.
    """
    runs = found.runs
    if runs is None or runs.plan.folds < 2 or found.confirmed is None:
        return {}
    names = {fold: runs.plan.name(key[0], (fold, key[1])) for fold in range(runs.plan.folds)}
    known = {fold: file_of(found, runs, name) for fold, name in names.items()}
    return {fold: read_fold(found, *file) for fold, file in known.items() if file is not None}


def file_of(found: Search, runs: Runs, name: str) -> tuple[str, str] | None:
    """The trial of a run, and the digest of the file with its predictions, if it has one."""
    outcomes = runs.outcomes.get(name)
    if outcomes is None or outcomes.predictions is None:
        return None
    return outcomes.trial_id, outcomes.predictions


def read_fold(found: Search, trial_id: str, sha256: str) -> Fold:
    """What the file of a run holds."""
    path = predictions_path(found.path / CONFIRM, trial_id)
    if not path.is_file() or digest(path) != sha256:
        raise ValueError(
            f"{path} is gone or not as it was written; add --no-calibrate --tta none, or delete"
            f" {found.path / CONFIRM} and confirm again"
        )
    with np.load(path, allow_pickle=False) as arrays:
        logits = {CENTRE: arrays["logits"].astype(np.float32)}
        looks = [name for name in arrays if name.startswith(LOOK)]
        logits |= {n.removeprefix(LOOK): arrays[n].astype(np.float32) for n in looks}
        return Fold(logits, arrays["labels"].astype(np.int64))


def scores(probabilities: Floats, labels: Labels, metric: str) -> NDArray[np.float64]:
    """(N,): of each image, higher is better; the mean is the metric or its negative.

    Losses are clipped as Kaggle clips them.
    """
    if metric == "valid_acc":
        right: NDArray[np.float64] = (probabilities.argmax(1) == labels).astype(np.float64)
        return right
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    found: NDArray[np.float64] = np.log(np.maximum(own, LEAST))
    return found
