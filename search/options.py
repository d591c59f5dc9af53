"""Every option of the commands, each defined once: its type, default, help and panel.

A command takes dataclasses of options (`search/command_line/parameters.py`); what says how a search
is run, as opposed to what is searched, is in `search/running/options.py`, which a Request inherits;
those of `submit` and of the commands that go on with a search are in their rooms (`options.py`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from search.cluster.addresses import RAY_CLIENT, asked_address
from search.command_line.parameters import (
    BUDGET,
    ONE_SESSION,
    PLACES,
    REMEMBERED,
    RESULTS,
    SEARCHED,
    Results,
    parameters,
    words,
)
from search.running.options import Options


def complete_task(incomplete: str) -> list[str]:
    """The tasks that come with the project."""
    from search.study.loading import TASKS

    return [task for task in TASKS if task.startswith(incomplete)]


def complete_setting(context: typer.Context, incomplete: str) -> list[str]:
    """`knob=` for every knob and study setting of the TASK that was typed before."""
    from search.study.overrides import SETTINGS

    return [f"{name}=" for name in [*knobs(context), *SETTINGS] if name.startswith(incomplete)]


def complete_range(context: typer.Context, incomplete: str) -> list[str]:
    """`knob=` for every knob of the TASK that was typed before."""
    return [f"{name}=" for name in knobs(context) if name.startswith(incomplete)]


def knobs(context: typer.Context) -> list[str]:
    """Names of the task's knobs; none of a user's file, which completing must not run."""
    from search.study.loading import TASKS, load_study

    # An option that still lacks its value stops typer before it has parsed the argument.
    task = str(context.params.get("task") or next(iter(context.args), ""))
    if task.partition("-")[0] not in TASKS:
        return []
    return [field.name for field in dataclasses.fields(load_study(task).config)]


Task = Annotated[
    str,
    typer.Argument(
        metavar="TASK",
        autocompletion=complete_task,
        help="digits, cifar10, dog_breed, images, images-NAME, or a .py file with your STUDY.",
    ),
    ONE_SESSION,
]
Data = Annotated[
    Path,
    typer.Option(
        metavar="DIR",
        rich_help_panel=PLACES,
        help="The parent folder of prepared data, in which the task's own folder lies.",
    ),
]
Sets = Annotated[
    tuple[str, ...],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        autocompletion=complete_setting,
        rich_help_panel=SEARCHED,
        help="Give a knob or a study setting this value and do not search it. Repeatable.",
    ),
    REMEMBERED,
]
Ranges = Annotated[
    tuple[str, ...],
    typer.Option(
        "--range",
        metavar="KEY=SPEC",
        autocompletion=complete_range,
        rich_help_panel=SEARCHED,
        help="Search a knob over 1e-3..0.5:log, or over 64,128,256. Repeatable.",
    ),
    REMEMBERED,
]
DATA = Path("data")


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """The options of `prepare`."""

    task: Task
    data: Data = DATA
    source: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the labelled images: class folders or a table of labels, or archives.",
        ),
    ] = None
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The data set's name: TASK is then TASK-NAME. Of images, by default its folder's.",
        ),
        ONE_SESSION,
    ] = None
    valid_fraction: Annotated[
        float | None,
        typer.Option(
            metavar="F", help="Share of the labelled images to validate on, at first 0.1."
        ),
    ] = None
    split_seed: Annotated[
        int | None, typer.Option(metavar="S", help="Seed of the split, at first 0.")
    ] = None
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The table of labels, if not found.")
    ] = None
    image_folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The labelled images, if not found.")
    ] = None
    id_column: Annotated[
        str | None, typer.Option(metavar="C", help="The column that names the image files.")
    ] = None
    label_column: Annotated[
        str | None, typer.Option(metavar="C", help="The column that names the classes.")
    ] = None
    encoding: Annotated[
        str | None, typer.Option(metavar="E", help="Encoding of the table, such as gbk or cp1252.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Request(Options):
    """The options of `search`, as the command line gave them."""

    task: Task
    data: Data = DATA
    results: Results = RESULTS
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The search's name, by default the time it starts."),
        ONE_SESSION,
    ] = None
    sets: Sets = ()
    ranges: Ranges = ()
    num_samples: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            rich_help_panel=BUDGET,
            help="Number of trials, the baseline included.",
        ),
        REMEMBERED,
    ] = None
    num_epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="E",
            rich_help_panel=BUDGET,
            help="Full budget of a trial in epochs. Another one with --resume where the learning"
            " rate does not depend on it (constant, step).",
        ),
        REMEMBERED,
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(min=0, metavar="S", rich_help_panel=SEARCHED, help="Seed of the sampler."),
        REMEMBERED,
    ] = None
    cpus_per_trial: Annotated[
        float | None,
        typer.Option(
            metavar="C", rich_help_panel=PLACES, help="CPU cores of a trial, also its threads."
        ),
        REMEMBERED,
    ] = None
    gpus_per_trial: Annotated[
        str | None,
        typer.Option(
            metavar="G",
            rich_help_panel=PLACES,
            help="GPUs of a trial: 1, 0.25, or auto (measured, as many trials as fit).",
        ),
        REMEMBERED,
    ] = None

    confirm: Annotated[
        bool | None,
        typer.Option(
            "--confirm/--no-confirm",
            rich_help_panel=BUDGET,
            help="Run the best configurations and the baseline again on five folds, and choose by"
            " their means; by default where that takes less than a minute.",
        ),
    ] = None

    @property
    def ray_address(self) -> str | None:
        """The cluster that was asked for: --address, else RAY_ADDRESS; None for a private one."""
        return asked_address(self.address)

    @property
    def over_client(self) -> bool:
        """Whether that cluster is to be reached over Ray Client."""
        return (self.ray_address or "").startswith(RAY_CLIENT)


@dataclass(frozen=True, kw_only=True)
class Showing:
    """The options of `show`."""

    task: Task
    data: Data = DATA
    sets: Sets = ()
    ranges: Ranges = ()
    style: Annotated[
        str, typer.Option("--format", metavar="F", help="How it is printed: table or json.")
    ] = "table"


def remembered(model: type = Request) -> list[str]:
    """Names of the options that search.json remembers."""
    return [parameter.name for parameter in parameters(model) if REMEMBERED in parameter.notes]


def words_of_later_sessions(request: Request) -> list[str]:
    """What a resume must be told again: neither what search.json remembers nor what ends."""
    known = [p.name for p in parameters(Request) if {REMEMBERED, ONE_SESSION} & {*p.notes}]
    return words(request, absolute=False, without=known)
