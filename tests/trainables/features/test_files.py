"""Feature files: whole or not there, whatever happens to the process or to the file."""

from __future__ import annotations

import itertools
import multiprocessing
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from trainables.features import files as feature_files
from trainables.features.files import Features, fill, open_features, write_features

COUNT, WIDTH, CHUNK = 30, 5, 8


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_files, "CHUNK", CHUNK)


def numbers(rows: range) -> Features:
    """What a computation yields for these images."""
    return np.outer(np.array(rows) + 1, np.arange(1, WIDTH + 1)).astype(np.float32)


def compute(pieces: Sequence[range]) -> Iterator[Features]:
    """The numbers of each of the ranges."""
    yield from (numbers(rows) for rows in pieces)


def fill_two_pieces(path: Path) -> list[int]:
    """Begin to fill the file, and give up."""
    return list(itertools.islice(fill(path, COUNT, compute), 2))


def check(path: Path) -> None:
    """The file is right, and nothing else is left."""
    found = open_features(path, COUNT)
    assert found is not None
    assert found.tolist() == numbers(range(COUNT)).tolist()
    assert [other.name for other in path.parent.iterdir()] == [path.name]


def test_a_file_is_filled_in_pieces_and_mapped(tmp_path: Path) -> None:
    path = tmp_path / "view.npy"
    assert open_features(path, COUNT) is None
    assert list(fill(path, COUNT, compute)) == [8, 8, 8, 6]
    check(path)
    mapped = open_features(path, COUNT)
    assert isinstance(mapped, np.memmap)
    assert open_features(path, COUNT + 1) is None


@pytest.mark.parametrize("keep", [0, 1, 31, 32, 33, 100, 400, -1])
def test_a_truncated_file_is_found(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "view.npy"
    write_features(path, numbers(range(COUNT)))
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    assert open_features(path, COUNT) is None
    list(fill(path, COUNT, compute))
    check(path)


def test_a_changed_byte_is_found_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "view.npy"
    write_features(path, numbers(range(COUNT)))
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        assert open_features(path, COUNT) is None, position
    path.write_bytes(content)
    check(path)


def test_an_interrupted_computation_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "view.npy"
    assert fill_two_pieces(path) == [8, 8]
    assert open_features(path, COUNT) is None
    asked: list[range] = []

    def note(pieces: Sequence[range]) -> Iterator[Features]:
        asked.extend(pieces)
        yield from compute(pieces)

    assert sum(fill(path, COUNT, note)) == COUNT
    assert asked == [range(16, 24), range(24, 30)]
    check(path)


def test_a_damaged_piece_is_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "view.npy"
    fill_two_pieces(path)
    piece = path.with_suffix(".pieces") / "0000008.npy"
    piece.write_bytes(piece.read_bytes()[:-3])
    assert sum(fill(path, COUNT, compute)) == COUNT
    check(path)


KILLED = """
import os, pathlib, signal, sys
from pathlib import Path
from tests.trainables.features import test_files as tests
from trainables.features import files as feature_files
feature_files.CHUNK = tests.CHUNK
path, moment, late = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "late"
replace, count = Path.replace, 0
def dying(self, target):
    global count
    count += 1
    if count == moment and not late:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(self, target)
    if count == moment:
        os.kill(os.getpid(), signal.SIGKILL)
Path.replace = dying
list(feature_files.fill(path, tests.COUNT, tests.compute))
"""


@pytest.mark.parametrize("late", ["early", "late"])
@pytest.mark.parametrize("moment", [1, 3, 5])
def test_after_kill_9_the_next_process_finishes(tmp_path: Path, moment: int, late: str) -> None:
    path = tmp_path / "view.npy"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), str(moment), late])
    assert killed.returncode == -9
    list(fill(path, COUNT, compute))
    check(path)


def test_processes_that_write_the_same_file_do_not_hurt_each_other(tmp_path: Path) -> None:
    path = tmp_path / "view.npy"
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=write_often, args=(path,)) for _ in range(3)]
    for process in processes:
        process.start()
    seen = 0
    while any(process.is_alive() for process in processes):
        found = open_features(path, COUNT)
        assert found is not None or not seen
        if found is not None:
            seen += 1
            assert found.tolist() == numbers(range(COUNT)).tolist()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert seen
    check(path)


def write_often(path: Path) -> None:
    """What each of the processes above does."""
    for _ in range(100):
        write_features(path, numbers(range(COUNT)))
