"""What a search was asked for: the options checked, remembered, and turned into a study."""

from __future__ import annotations

import math
import re
import shlex
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from search.errors import UsageError
from search.files import read_json
from search.options import Request
from search.records.folder import latest_search
from search.records.search import Search
from search.running.warm_start import warm_start
from search.study.loading import load_study
from search.study.overrides import customise
from search.study.study import Study

PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
REMEMBERED = (
    "sets",
    "ranges",
    "num_samples",
    "num_epochs",
    "seed",
    "cpus_per_trial",
    "gpus_per_trial",
)


def plan(request: Request) -> tuple[Study, Path, dict[str, Any]]:
    """Check all options before anything starts: the study, its directory, what to remember."""
    study = load_study(request.task)
    folder = request.results / study.task
    if request.name is not None and not PLAIN_NAME.fullmatch(request.name):
        raise UsageError(f"--name {request.name!r}: use letters, digits, dot, dash and underscore")
    if request.resume:
        search_dir = (
            folder / request.name if request.name else latest_search(request.results, study.task)
        )
        if (search_dir / "search.json").exists():
            recall(request, read_json(search_dir / "search.json").get("overrides", {}))
    else:
        search_dir = folder / (request.name or datetime.now().strftime("%Y%m%d-%H%M%S"))
    seconds(request.time_budget)
    study = customise(
        study,
        sets=request.sets,
        ranges=request.ranges,
        num_samples=request.num_samples,
        num_epochs=request.num_epochs,
        seed=request.seed,
        cpus_per_trial=request.cpus_per_trial,
        gpus_per_trial=gpus(request.gpus_per_trial),
    )
    warm_start(request.warm_start, study)  # complains about a wrong one before anything starts
    remembered = {key: getattr(request, key) for key in REMEMBERED}
    earlier = [str(path.resolve()) for path in request.warm_start]
    return study, search_dir, {"task": request.task, "warm_start": earlier, **remembered}


def recall(request: Request, overrides: dict[str, Any]) -> None:
    """Take over what the first session was told, wherever this one says nothing else."""
    for key in ("sets", "ranges"):
        said = {spec.partition("=")[0] for spec in [*request.sets, *request.ranges]}
        kept = [spec for spec in overrides.get(key, []) if spec.partition("=")[0] not in said]
        setattr(request, key, [*kept, *getattr(request, key)])
    request.warm_start = request.warm_start or [Path(p) for p in overrides.get("warm_start", [])]
    for key in REMEMBERED:
        if getattr(request, key) is None:
            setattr(request, key, overrides.get(key))


def gpus(text: str | float | None) -> float | None:
    """GPUs of a trial; None where the cluster decides (also for `auto`). Raises UsageError."""
    try:
        number = None if text is None or text == "auto" else float(text)
    except ValueError:
        number = -1.0
    if number is not None and not 0 <= number < math.inf:
        raise UsageError(f"--gpus-per-trial {text}: use a number such as 0.25 or 1, or auto")
    return number


def seconds(text: str | None) -> float | None:
    """A time span in seconds: `90`, `90s`, `30m`, `2h`, `1h30m`. Raises UsageError."""
    if text is None:
        return None
    try:
        span = float(text) if re.fullmatch(r"[\d.]+", text) else pd.Timedelta(text).total_seconds()
    except ValueError:
        span = 0.0
    if not span > 0:
        raise UsageError(f"--time-budget {text}: write it like 90s, 30m, 2h or 1h30m")
    return span


def resume_command(request: Request, found: Search) -> str:
    """The command that goes on with a search that was cut."""
    words = ["resnet-tune", "search", request.task, "--name", found.path.name, "--resume"]
    for option, value, default in (
        ("--data", request.data, Path("data")),
        ("--results", request.results, Path("results")),
        ("--address", request.address, None),
        ("--storage", request.storage, None),
    ):
        if value != default:
            words += [option, str(value)]
    return shlex.join(words)
