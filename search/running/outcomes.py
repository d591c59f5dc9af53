"""What the best trials made of each image, taken out of their last checkpoints while these last."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.digests import digest
from data_prep.files import replacing
from search.cluster.storage import Storage
from search.records.best import BASELINE, ranking
from search.records.ledger import TrialRecord
from search.records.outcomes import (
    KEPT,
    Outcomes,
    keep_outcomes,
    outcomes_path,
    predictions_path,
    write_outcomes,
)
from trainables.outcomes import LOOK, OUTCOMES_FILE


class OutcomeFiles:
    """Keeps the files of a search: of its best completed trials and the baseline, or of `all`."""

    def __init__(
        self,
        search_dir: Path,
        storage: Storage,
        metric: str,
        mode: str,
        everything: bool = False,
    ) -> None:
        self.search_dir = search_dir
        self.storage = storage
        self.metric = metric
        self.mode = mode
        self.everything = everything

    def wanted(self, records: Mapping[str, TrialRecord]) -> list[str]:
        """The trials that can matter, best first."""
        completed = (record for record in records.values() if record.status == "completed")
        order = [scored.record.trial_id for scored in ranking(completed, self.metric, self.mode)]
        if self.everything:
            return order
        return [*order[:KEPT], *(name for name in order[KEPT:] if name == BASELINE)]

    def gather(
        self, records: Mapping[str, TrialRecord], checkpoints: Mapping[str, str | None]
    ) -> None:
        """Take what is wanted and not here yet from the checkpoints; delete what is not wanted.

        What is out of reach or damaged is left out: it serves comparisons alone.
        """
        wanted = self.wanted(records)
        for trial_id in wanted:
            if trial_id in checkpoints and not outcomes_path(self.search_dir, trial_id).exists():
                self.take(trial_id, checkpoints[trial_id])
        keep_outcomes(self.search_dir, wanted)

    def with_predictions(self, outcomes: Outcomes, arrays: Mapping[str, Any]) -> Outcomes:
        """Write the logits, by all looks; the outcomes with the digest of their file."""
        path = predictions_path(self.search_dir, outcomes.trial_id)
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as aside, aside.open("wb") as file:
            np.savez_compressed(file, **arrays)
        return replace(outcomes, predictions=digest(path))

    def take(self, trial_id: str, checkpoint: str | None) -> None:
        """One trial's, out of its checkpoint."""
        name = self.storage.inside(checkpoint)
        if name is None:
            return
        try:
            content = self.storage.read(f"{name}/{OUTCOMES_FILE}")
            with np.load(io.BytesIO(content), allow_pickle=False) as found:
                losses, correct = found["losses"].tolist(), found["correct"].astype(int).tolist()
                outcomes = Outcomes(trial_id, int(found["epoch"]), tuple(losses), tuple(correct))
                if "logits" in found:
                    names = [n for n in found if n in ("logits", "labels") or n.startswith(LOOK)]
                    outcomes = self.with_predictions(outcomes, {n: found[n] for n in names})
            write_outcomes(self.search_dir, outcomes)
        except Exception:  # a service, a full disk, a damaged archive: each raises its own types
            return
