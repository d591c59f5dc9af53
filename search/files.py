"""The files of one search, `results/<task>/<name>/`: where they are, how they are written."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_prep.files import from_json, write_text

NO_ROOM = 2**16  # bytes: a disk with less is full


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON (not-a-number becomes null), whole or not at all."""
    text = json.dumps(strict(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises ValueError that names the file when it is missing or damaged."""
    try:
        return from_json(path.read_text(encoding="utf-8"))
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


@contextmanager
def told_if_full(path: Path) -> Iterator[None]:
    """What a library raises where the disk under `path` is full is the system's error, with it."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        full = f"os error {errno.ENOSPC}" in str(error)  # as Rust says it
        if full or shutil.disk_usage(path.parent).free < NO_ROOM:
            reason = os.strerror(errno.ENOSPC)
            raise OSError(errno.ENOSPC, reason, str(path)) from error
        raise
