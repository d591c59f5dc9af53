"""What search.json says of a search: the study, the data, the versions, the command."""

from __future__ import annotations

import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

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
