"""Files written whole or not at all, by processes that know nothing of each other."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ByteSize, TypeAdapter, ValidationError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it replaces `path` when the block ends without error.

    As `data_prep.files.replacing`: the two packages do not import each other.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        aside.chmod(0o644)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def size_in_bytes(text: str) -> int:
    """A size such as `5GB` or `500MiB`. Raises ValueError for anything else."""
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise ValueError(f"{text}: give auto, none, or a size such as 5GB") from None
