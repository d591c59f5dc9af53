"""What search.json says of a search: the study, the data, the versions, the command."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.distributions import distribution_to_json

from data_prep.prepared import PreparedData
from search.files import SEARCH_JSON, read_json
from search.space import When
from search.study import Study

if TYPE_CHECKING:
    from search.run import Options

LIBRARIES = ("torch", "torchvision", "ray", "optuna", "numpy", "pandas", "pydantic")


def now() -> str:
    """The time in ISO 8601, UTC, to the microsecond: search directories are ordered by it."""
    return datetime.now(timezone.utc).isoformat()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape the numbers, without importing them."""
    return {"python": platform.python_version()} | {name: version_of(name) for name in LIBRARIES}


def version_of(package: str) -> str:
    """The version that is installed here."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def git_commit() -> str | None:
    """The commit of the working tree this package runs from, with `+` where it was changed."""
    here = Path(__file__).parent
    try:
        head = ["git", "-C", str(here), "rev-parse", "HEAD"]
        commit = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
        status = ["git", "-C", str(here), "status", "--porcelain", "--untracked-files=no"]
        dirty = subprocess.run(status, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if dirty else "")


def describe_space(study: Study) -> dict[str, Any]:
    """Each searched knob's Optuna distribution and condition."""
    described = {}
    for name, entry in study.space.items():
        when = (
            {"parameter": entry.parameter, "values": list(entry.values)}
            if isinstance(entry, When)
            else None
        )
        distribution = entry.distribution if isinstance(entry, When) else entry
        described[name] = {"distribution": distribution_to_json(distribution), "when": when}
    return described


def describe_search(
    study: Study, data: PreparedData, search_dir: Path, options: Options
) -> dict[str, Any]:
    """The content of search.json at the start of a session; the first session's start is kept."""
    before = read_json(search_dir / SEARCH_JSON) if (search_dir / SEARCH_JSON).exists() else {}
    counts = data.split["split"].value_counts()
    return {
        "task": study.task,
        "name": search_dir.name,
        "status": "running",
        "metric": study.metric,
        "mode": study.mode,
        "num_samples": study.num_samples,
        "num_epochs": study.num_epochs,
        "seed": study.seed,
        "sampler": study.sampler if isinstance(study.sampler, str) else repr(study.sampler),
        "scheduler": study.scheduler,
        "grace_period": study.grace_period,
        "reduction_factor": study.reduction_factor,
        "space": describe_space(study),
        "baseline": dataclasses.asdict(study.config),
        "data": {
            "root": str(data.root.resolve()),
            "fingerprint": data.fingerprint,
            "classes": list(data.classes),
            "train": int(counts.get("train", 0)),
            "valid": int(counts.get("valid", 0)),
        },
        "reference": study.reference,
        "caveat": study.caveat,
        "versions": {**versions(), "resnet-tune": version_of("resnet-tune")},
        "git_commit": git_commit(),
        "command": list(options.command),
        "overrides": options.overrides,
        "start": before.get("start", now()),
        "end": None,
        "sessions": [*before.get("sessions", []), now()],
    }
