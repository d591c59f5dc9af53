"""What is done with bytes from nowhere. It ends well, or in one line of our own; else it raises."""

from __future__ import annotations

import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from data_prep.archives import SUFFIXES
from data_prep.images import MAX_PIXELS, decode, no_pillow_warnings
from data_prep.labels import read_labels
from data_prep.layout import FOUND
from data_prep.progress import no_progress
from data_prep.tables import read_table
from data_prep.unpack import unpack
from search.errors import mistake
from search.records.search import load
from search.review.table import STYLES, format_trials
from tests.fuzz.seeds import IDS
from tests.ledgers import make_search


@contextmanager
def one_line() -> Iterator[None]:
    """Only an error that the user is told in one line may leave the block; it is swallowed."""
    try:
        yield
    except Exception as error:
        told = mistake(error)
        if told is None or not told.strip() or "\n" in told:
            raise


@cache
def place() -> Path:
    """A folder for files, in memory where there is such a one."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))


def labels(data: bytes) -> None:
    """A table of labels: each row is used, or told by what is wrong with it."""
    path = place() / "labels.csv"
    path.write_bytes(data)
    files = [f"{name}.png" for name in IDS]
    with one_line():
        table = read_table(path, known=IDS)
        found = read_labels(table, files, FOUND)
        assert set(found.labels) <= set(files)
        told = [name for names in found.problems.values() for name in names]
        assert len(found.labels) + len(told) >= min(len(files), len(set(files)))
        assert sum(found.seen.values()) <= found.rows + 1


def image(data: bytes) -> None:
    """An image: RGB of a bounded size."""
    with one_line(), no_pillow_warnings():
        found = decode(data)
        assert found.mode == "RGB"
        assert 0 < found.width * found.height <= MAX_PIXELS


def archive(data: bytes) -> None:
    """An archive: plain files inside the folder that it is unpacked to, and nothing elsewhere."""
    base = place() / "archive"
    shutil.rmtree(base, ignore_errors=True)
    (base / "in").mkdir(parents=True)
    for suffix in kinds(data):
        path = base / "in" / f"toy{suffix}"
        path.write_bytes(data)
        with one_line():
            unpack([path], frozenset(), base / "out", no_progress)
        assert {entry.name for entry in base.iterdir()} <= {"in", "out"}
        for found in (base / "out").rglob("*"):
            assert stat.S_IFMT(found.lstat().st_mode) in (stat.S_IFREG, stat.S_IFDIR), found
        shutil.rmtree(base / "out", ignore_errors=True)


def kinds(data: bytes) -> tuple[str, ...]:
    """The suffixes under which an archive of these bytes is worth a try."""
    if data[:2] == b"7z":
        return (".7z",)
    if data[:2] == b"PK":
        return (".zip",)
    return (".tgz",) if data[:2] == b"\x1f\x8b" else (".tar",) if len(data) > 4096 else SUFFIXES


@cache
def search_dir() -> Path:
    """A search whose ledger is replaced."""
    return make_search(place() / "digits" / "one", trials=4)


def ledger(data: bytes) -> None:
    """A ledger: every table can be shown, and the best trial told."""
    (search_dir() / "ledger.jsonl").write_bytes(data)
    with one_line():
        found = load(search_dir())
        for style in STYLES:
            format_trials([found], style=style, width=80)
        assert found.best is None or found.best["trial_id"] in found.records
        assert len(found.history) == sum(len(r.history) for r in found.records.values())


TARGETS: dict[str, Callable[[bytes], None]] = {
    "labels": labels,
    "image": image,
    "archive": archive,
    "ledger": ledger,
}
