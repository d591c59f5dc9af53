"""The folder of one search, `results/<task>/<name>/`: its lock, and which one is the latest."""

from __future__ import annotations

import tempfile
from pathlib import Path

from filelock import FileLock, Timeout

from search.files import read_json

SEARCH_JSON = "search.json"
CONFIRM = "confirm"  # the folder in a search's own where its best configurations are run again


def driver_lock(search_dir: Path) -> FileLock:
    """The lock that the driver of a search holds while it runs."""
    return FileLock(search_dir / ".driver.lock")


def is_running(search_dir: Path) -> bool:
    """Whether a living driver on this machine (or over a locking file system) holds the search."""
    if not (search_dir / ".driver.lock").exists():
        return False
    lock = driver_lock(search_dir)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # a read-only copy of a search: nobody runs it
        return False
    lock.release()
    return False


def find_searches(results: Path, task: str | None = None) -> list[Path]:
    """Search directories under `results`, the latest started last."""
    found = results.glob(f"{task or '*'}/*/{SEARCH_JSON}")
    return [path.parent for path in sorted(found, key=started_at)]


def started_at(search_json: Path) -> str:
    """The ISO start time in a search.json; an unreadable one counts as oldest."""
    try:
        return str(read_json(search_json).get("start", ""))
    except (ValueError, AttributeError):
        return ""


def latest_search(results: Path, task: str | None = None) -> Path:
    """The search started last. Raises ValueError where there is none."""
    searches = find_searches(results, task)
    if not searches:
        what = f"of {task} " if task else ""
        raise ValueError(f"no search {what}under {results}: run `resnet-tune search TASK` first")
    return searches[-1]


def check_writable(folder: Path) -> None:
    """Raise ValueError unless `folder` can be written, or made where it is not there yet."""
    probe = folder
    while not probe.exists() and probe != probe.parent:
        probe = probe.parent
    if not probe.is_dir():
        raise ValueError(
            f"results folder {folder}: {probe} is not a folder; choose another --results"
        )
    try:
        with tempfile.TemporaryFile(dir=probe):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"results folder {folder} cannot be written ({reason}); choose another --results"
        ) from None
