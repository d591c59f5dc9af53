"""The files of one search, `results/<task>/<name>/`: where they are, how they are written."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

SEARCH_JSON = "search.json"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it replaces `path` when the block ends without error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        aside.chmod(0o644)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON (not-a-number becomes null), whole or not at all."""
    write_text(
        path, json.dumps(strict(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    )


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises ValueError that names the file when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); restore it or delete it") from None


def strict(value: Any) -> Any:
    """The value with NaN and infinities as None, which is all that JSON can say of them."""
    if isinstance(value, dict):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


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
