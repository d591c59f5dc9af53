"""What the best trials made of each image of `valid`: a small sealed file a trial, `outcomes/`.

A file is one line, as those of the ledger (`sealed.py`): the epoch that the trial counts by, the
loss of each image in the order of the split, and a digit for each that tells if it was right.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.files import write_text
from search.records.ledger import TRIAL_ID
from search.records.sealed import SealedFile, seal

FOLDER = "outcomes"
DIGITS = 6  # of a loss, significant
KEPT = 20  # trials, besides the baseline; no more can be near the best in any search that matters


@dataclass(frozen=True)
class Outcomes:
    """Of one trial, at the epoch that it counts by."""

    trial_id: str
    epoch: int
    losses: tuple[float, ...]
    correct: tuple[int, ...]
    """1 for each image of which the likeliest class is the true one, else 0."""
    predictions: str | None = None
    """SHA-256 of the file with the logits, of a trial on a fold."""

    def scores(self, metric: str) -> Sequence[float]:
        """A number for each image, higher is better, whose mean is the metric or its negative."""
        return self.correct if metric == "valid_acc" else [-loss for loss in self.losses]


def outcomes_path(search_dir: Path, trial_id: str) -> Path:
    """Where a trial's are."""
    return search_dir / FOLDER / f"{trial_id}.jsonl"


def predictions_path(search_dir: Path, trial_id: str) -> Path:
    """Where the logits of a trial on a fold are: float16 (N, C) `logits`, the same
    by other looks at the images (`look_mirrored`), int64 (N,) `labels`."""
    return search_dir / FOLDER / f"{trial_id}.npz"


def write_outcomes(search_dir: Path, found: Outcomes) -> None:
    """Write a trial's file, whole or not at all."""
    entry = {
        "trial": found.trial_id,
        "epoch": found.epoch,
        "losses": [float(f"{loss:.{DIGITS}g}") for loss in found.losses],
        "correct": "".join(map(str, found.correct)),
        **({"predictions": found.predictions} if found.predictions else {}),
    }
    path = outcomes_path(search_dir, found.trial_id)
    path.parent.mkdir(exist_ok=True)
    write_text(path, seal(entry, 1))


def read_outcomes(search_dir: Path, damage: list[str]) -> dict[str, Outcomes]:
    """All that are there, by trial; `damage` gets a line for each file that cannot be used."""
    found: dict[str, Outcomes] = {}
    for path in sorted((search_dir / FOLDER).glob("t*.jsonl")):
        file = SealedFile(path)
        entries = [entry for _, entry in file]
        try:
            (entry,) = entries
            losses = tuple(map(float, entry["losses"]))
            correct = tuple(map(int, entry["correct"]))
            if entry["trial"] != path.stem or len(losses) != len(correct):
                raise ValueError
            epoch, predictions = int(entry["epoch"]), entry.get("predictions")
            found[path.stem] = Outcomes(path.stem, epoch, losses, correct, predictions)
        except (ValueError, KeyError, TypeError):
            damage += file.damage or [f"{path}: what it says cannot be read"]
    return found


def keep_outcomes(search_dir: Path, trial_ids: Collection[str]) -> None:
    """Delete the files of all other trials."""
    for path in (search_dir / FOLDER).glob("t*.jsonl"):
        if TRIAL_ID.fullmatch(path.stem) and path.stem not in trial_ids:
            path.unlink(missing_ok=True)
