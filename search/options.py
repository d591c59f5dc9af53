"""The arguments and options of the commands, with their help texts; imports nothing heavy."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from search.cluster.addresses import RAY_CLIENT, asked_address

Task = Annotated[str, typer.Argument(metavar="TASK", help="digits, cifar10, dog_breed, or FILE.py")]
SearchDir = Annotated[
    Path | None,
    typer.Argument(
        metavar="[SEARCH_DIR]", help="results/<task>/<name>; default: the latest search"
    ),
]
Source = Annotated[
    Path | None, typer.Option(help="Kaggle's download: unpacked, or the folder with its archives")
]
Data = Annotated[
    Path, typer.Option(help="parent folder of prepared data; the task's folder lies inside")
]
Results = Annotated[Path, typer.Option(help="parent folder of all results")]
ValidFraction = Annotated[float, typer.Option(help="share of the labelled images to validate on")]
Name = Annotated[str | None, typer.Option(help="the search's name; default: the time it starts")]
NumSamples = Annotated[int | None, typer.Option(min=1, help="trials, the baseline included")]
NumEpochs = Annotated[int | None, typer.Option(min=1, help="full budget of a trial in epochs")]
Seed = Annotated[int | None, typer.Option(min=0, help="seed of the sampler")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="fix a knob or study setting; repeatable"),
]
Ranges = Annotated[
    list[str] | None,
    typer.Option(
        "--range", metavar="KEY=SPEC", help="search a knob over 1e-3..0.5:log or 64,128; repeatable"
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="finish or extend the search of that name")]
TimeBudget = Annotated[str | None, typer.Option(help="stop after 90s, 30m, 2h or 1h30m")]
Patience = Annotated[
    int | None, typer.Option(min=1, help="stop after N finished trials without a better one")
]
WarmStart = Annotated[
    list[Path] | None,
    typer.Option("--warm-start", help="an earlier search of the task to learn from; repeatable"),
]
MaxConcurrent = Annotated[
    int | None,
    typer.Option(min=1, help="trials at once, by default all that fit; an autoscaler makes room"),
]
MaxFailures = Annotated[int, typer.Option(min=0, help="restarts of a trial whose process died")]
CpusPerTrial = Annotated[float | None, typer.Option(help="CPU cores a trial, also its threads")]
GpusPerTrial = Annotated[
    str | None,
    typer.Option(metavar="G", help="GPUs a trial: 1, 0.25, or auto (measured, as many as fit)"),
]
Address = Annotated[
    str | None,
    typer.Option(metavar="A", help="Ray cluster: auto, HOST:PORT, or ray://HOST:PORT (as a job)"),
]
Storage = Annotated[str | None, typer.Option(help="path or URI for checkpoints, seen by all nodes")]
Mlflow = Annotated[str | None, typer.Option(help="MLflow tracking URI (extra: mlflow)")]
Wandb = Annotated[str | None, typer.Option(help="Weights & Biases project (extra: wandb)")]
Trial = Annotated[str | None, typer.Option("--trial", help="a trial's id; default: the best")]
RESULTS = Path("results")
DATA = Path("data")

PLURALS = {"sets": "set", "ranges": "range"}


@dataclass
class Request:
    """The options of `search`, as the command line gave them."""

    task: str
    data: Path
    results: Path
    name: str | None = None
    num_samples: int | None = None
    num_epochs: int | None = None
    seed: int | None = None
    sets: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    resume: bool = False
    time_budget: str | None = None
    patience: int | None = None
    warm_start: list[Path] = field(default_factory=list)
    max_concurrent: int | None = None
    max_failures: int = 3
    cpus_per_trial: float | None = None
    gpus_per_trial: str | None = None
    address: str | None = None
    storage: str | None = None
    mlflow: str | None = None
    wandb: str | None = None

    @property
    def ray_address(self) -> str | None:
        """The cluster that was asked for: --address, else RAY_ADDRESS; None for a private one."""
        return asked_address(self.address)

    @property
    def over_client(self) -> bool:
        """Whether that cluster is to be reached over Ray Client."""
        return (self.ray_address or "").startswith(RAY_CLIENT)

    def words(self) -> list[str]:
        """The options as they are typed; paths are absolute."""
        words = []
        for option in dataclasses.fields(self):
            value = getattr(self, option.name)
            if option.name == "task" or value == option.default:
                continue
            flag = "--" + PLURALS.get(option.name, option.name).replace("_", "-")
            for one in value if isinstance(value, list) else [value]:
                text = str(one.absolute() if isinstance(one, Path) else one)
                words += [flag] if one is True else [flag, text]
        return words
