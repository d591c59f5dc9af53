"""A searcher of which Ray keeps nothing: a resumed search is a new searcher, fed by the ledger."""

from __future__ import annotations

from typing import Any

from ray.tune.search import Searcher


class StatelessSearcher(Searcher):  # type: ignore[misc]
    """Takes no part in Ray's snapshots."""

    def __getstate__(self) -> dict[str, Any]:
        """Ray pickles the searcher into its own snapshot, which nothing of ours reads."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the truth, and Ray's snapshots are not used."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a resumed search is a new searcher."""
