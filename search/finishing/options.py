"""The options of the commands that go on with a search: each defined once, as all others are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from search.command_line.parameters import PLACES, RESULTS, Results
from search.running.options import Address, MaxConcurrent, Storage

SearchDir = Annotated[
    Path | None,
    typer.Argument(
        metavar="SEARCH_DIR", help="results/<task>/<name>; by default the latest search."
    ),
]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The options of commands that go on with a search."""

    search_dir: SearchDir = None
    task: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py",
            help="The file with the search's STUDY, where that is your own. It is run; no file is"
            " that you do not name.",
        ),
    ] = None
    results: Results = RESULTS
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            rich_help_panel=PLACES,
            help="The parent folder of prepared data, by default where the search found it.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Sent(Finished):
    """The options of commands that go on with a search here or on a cluster."""

    address: Annotated[
        str | None,
        typer.Option(
            metavar="A",
            rich_help_panel=PLACES,
            help="Work on this Ray cluster (auto or HOST:PORT), as a task with a trial's resources."
            " By default in this process.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class LastSteps:
    """The options of what follows a retraining, of `retrain` and `run`."""

    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate/--no-calibrate",
            help="Fit one temperature to what a confirmation predicted out of fold, where the"
            " metric is log loss and it helps.",
        ),
    ] = True
    tta: Annotated[
        str,
        typer.Option(
            metavar="T",
            help="Average predictions over other looks at each image: auto (as many as help on the"
            " folds of a confirmation), none, mirror, or a number.",
        ),
    ] = "auto"
    ensemble: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="K",
            help="Average confirmed configurations, chosen greedily in up to K picks by what they"
            " predicted out of fold, where that helps; 0: none.",
        ),
    ] = 0


@dataclass(frozen=True, kw_only=True)
class Retraining(LastSteps, Sent):
    """The options of `retrain`."""

    trial: Annotated[
        str | None, typer.Option(metavar="ID", help="The trial to retrain, by default the best.")
    ] = None
    num_epochs: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="E", help="Epochs, by default those of the trial's best epoch."
        ),
    ] = None
    seeds: Annotated[
        int,
        typer.Option(
            min=1, metavar="S", help="Average so many trainings under seeds of their own."
        ),
    ] = 1


@dataclass(frozen=True, kw_only=True)
class Prediction(Sent):
    """The options of `predict`."""

    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A folder of other images, in place of the test set."),
    ] = None
    recursive: Annotated[
        bool, typer.Option("--recursive", help="With --images: those in its sub-folders, too.")
    ] = False
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The file to write, by default submission.csv or predictions.csv."
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Confirming(Finished):
    """The options of `confirm`."""

    top: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="K",
            help="Configurations besides the baseline, by default the best and those that the"
            " images of valid do not tell from it, ten at most.",
        ),
    ] = None
    folds: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="F",
            help="Folds of all labelled images, each of them valid once; 1: the prepared split,"
            " under other seeds.",
        ),
    ] = 5
    seeds: Annotated[
        int, typer.Option(min=1, metavar="S", help="Runs of each fold, under seeds of their own.")
    ] = 1
    address: Address = None
    storage: Storage = None
    max_concurrent: MaxConcurrent = None


@dataclass(frozen=True, kw_only=True)
class Repetition(Finished):
    """The options of `reproduce`."""

    trial: Annotated[str, typer.Option(metavar="ID", help="The trial to run again.")]


@dataclass(frozen=True, kw_only=True)
class Exporting(Finished):
    """The options of `export`."""

    style: Annotated[
        str,
        typer.Option("--format", metavar="F", help="Write safetensors, onnx or torchscript."),
    ]
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder to write to, by default SEARCH_DIR/export."),
    ] = None
