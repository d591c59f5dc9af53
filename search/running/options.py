"""How a search is run, as opposed to what is searched; most of it are command-line options."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from search.command_line.parameters import (
    BUDGET,
    ONE_SESSION,
    PLACES,
    REMEMBERED,
    SEARCHED,
    TRACKING,
)

if TYPE_CHECKING:
    from search.records.ledger import TrialRecord
    from search.schedulers.listed import Point


def seconds(text: str | float) -> float:
    """A time span in seconds: `90`, `90s`, `30m`, `2h`, `1h30m`."""
    import pandas as pd  # here: `--help` needs none

    text = str(text)
    try:
        span = float(text) if re.fullmatch(r"[\d.]+", text) else pd.Timedelta(text).total_seconds()
    except ValueError:
        span = 0.0
    if not span > 0:
        raise typer.BadParameter(f"--time-budget {text}: write it like 90s, 30m, 2h or 1h30m")
    return span


def storage_place(text: str) -> str:
    """A folder or a URI. Raises BadParameter for what looks like one that was mistyped."""
    if not text.strip():
        raise typer.BadParameter("--storage is empty: name a folder or a URI such as s3://bucket/x")
    if re.match(r"[A-Za-z][A-Za-z0-9+.]+:(?!//[^/])", text) and not text.startswith("file:///"):
        raise typer.BadParameter(
            f"--storage {text}: write a URI like s3://bucket/folder, or ./{text} for a folder"
        )
    return text


# Of every command that runs trials
Address = Annotated[
    str | None,
    typer.Option(
        metavar="A",
        rich_help_panel=PLACES,
        help="Use this Ray cluster: auto, HOST:PORT, or ray://HOST:PORT (as a job there)."
        " By default a private Ray on this machine.",
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(
        parser=storage_place,
        metavar="URI",
        rich_help_panel=PLACES,
        help="Keep checkpoints in this folder or at this URI, which all nodes must reach.",
    ),
]
MaxConcurrent = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        rich_help_panel=PLACES,
        help="Trials at once, by default all that fit. An autoscaler makes room for so many.",
    ),
]


@dataclass(frozen=True)
class Listed:
    """Points to run, stage by stage."""

    points: Sequence[Point]
    dropped: Callable[[Mapping[str, TrialRecord], int], Collection[str]]
    """By the ledger's trials: the groups of points that are given up before a stage."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a search is run. A field annotated for typer is an option of the commands that search."""

    resume: Annotated[
        bool,
        typer.Option("--resume", help="Finish or extend the search of that name."),
        ONE_SESSION,
    ] = False
    time_budget: Annotated[
        float | None,
        typer.Option(
            parser=seconds,
            metavar="TIME",
            rich_help_panel=BUDGET,
            help="Stop the search after this time, such as 90s, 30m, 2h or 1h30m. What"
            " follows it, as `run` does, comes on top.",
        ),
        ONE_SESSION,
    ] = None
    """Seconds of wall time, None: no limit."""
    patience: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            rich_help_panel=BUDGET,
            help="Stop after so many finished trials in a row without a better one.",
        ),
    ] = None
    warm_start: Annotated[
        tuple[Path, ...],
        typer.Option(
            metavar="DIR",
            rich_help_panel=SEARCHED,
            help="Begin with what an earlier search of the task has learned. Repeatable.",
        ),
        REMEMBERED,
    ] = ()
    """Earlier searches of the same task whose results this one begins with."""
    max_concurrent: MaxConcurrent = None
    """Trials at once, None: as many as the resources allow."""
    max_failures: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            rich_help_panel=PLACES,
            help="Try a trial again at most so many times after the machine failed it.",
        ),
    ] = 3
    """How often a trial in the machine's trouble goes on from its last checkpoint."""
    max_checkpoints_gb: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="GB",
            rich_help_panel=PLACES,
            help="End the least promising of the trials that wait at a rung where the"
            " checkpoints of all that wait take more than so many gigabytes.",
        ),
    ] = None
    """What paused trials' checkpoints may take, None: what the disk has."""
    no_trial_batch: Annotated[
        bool,
        typer.Option(
            "--no-trial-batch",
            rich_help_panel=PLACES,
            help="Start without having tried one batch of the baseline where trials run.",
        ),
        ONE_SESSION,
    ] = False
    """Start without one batch of the baseline having run where its trials will."""
    address: Address = None
    storage: Storage = None
    """Where checkpoints go, a path or URI that all nodes reach; None: the search directory."""
    mlflow: Annotated[
        str | None,
        typer.Option(
            metavar="URI",
            rich_help_panel=TRACKING,
            help="Log to the MLflow server at this tracking URI (extra: mlflow).",
        ),
    ] = None
    """MLflow tracking URI, None: not used."""
    wandb: Annotated[
        str | None,
        typer.Option(
            metavar="PROJECT",
            rich_help_panel=TRACKING,
            help="Log to this project of Weights & Biases (extra: wandb).",
        ),
    ] = None
    """Weights & Biases project, None: not used."""
    listed: Listed | None = None
    """What to run in place of what a sampler proposes."""
    pack_gpus: bool = False
    """Measure how many trials fit on a GPU."""
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The command-line options that shaped the study, for a later resume."""
    command: Sequence[str] = ()
