"""How a search is run, as opposed to what is searched."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Options:
    """How a search is run, as opposed to what is searched."""

    resume: bool = False
    time_budget: float | None = None
    """Seconds of wall time, None: no limit."""
    patience: int | None = None
    """Stop after so many finished trials without an improvement, None: never."""
    max_concurrent: int | None = None
    """Trials at once, None: as many as the resources allow."""
    max_failures: int = 3
    """How often a trial whose process or node died is started again from its last checkpoint."""
    pack_gpus: bool = False
    """Measure how many trials fit on a GPU."""
    address: str | None = None
    storage: str | None = None
    """Where checkpoints go, a path or URI that all nodes reach; None: the search directory."""
    warm_start: Sequence[Path] = ()
    """Earlier searches of the same task whose results this one begins with."""
    mlflow: str | None = None
    """MLflow tracking URI, None: not used."""
    wandb: str | None = None
    """Weights & Biases project, None: not used."""
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The command-line options that shaped the study, for a later resume."""
    command: Sequence[str] = ()
