"""Damage to prepared data is told by the file's name, and `prepare` makes the file again."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from data_prep.digests import SUMS, digest, find_change, write_digests
from data_prep.prepare import prepare
from data_prep.prepared import damage, load_prepared
from tests.downloads import LAYOUT, cats_and_dogs, write_download

RAGGED = replace(LAYOUT, image_size=None, short_side=6)
TABLES = (
    "audit.json classes.txt split.csv stats.json sample_submission.json test_labels.csv"
).split()
PACKED = "packed.json train_valid.npy test.npy train_valid_shapes.npy test_shapes.npy".split()
FILES = [*TABLES, *(f"packed/{name}" for name in PACKED)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a download and what was prepared from it."""
    place = tmp_path_factory.mktemp("whole")
    download = write_download(place / "in", cats_and_dogs())
    shutil.copy(download / "sample.csv", download / "answers.csv")
    prepare(RAGGED, download, place / "toy")
    return place


def flip(path: Path) -> None:
    """One bit, in the last digit, letter or pixel."""
    content = bytearray(path.read_bytes())
    place = max(i for i, byte in enumerate(content) if byte not in b'\n \r"],}')
    content[place] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    """Half of the file is lost."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_there_is_a_digest_of_everything_that_is_read_later(whole: Path) -> None:
    root = whole / "toy"
    for folder, names in ((root, TABLES), (root / "packed", PACKED)):
        done = subprocess.run(["sha256sum", "-c", SUMS], cwd=folder, capture_output=True, text=True)
        assert done.stdout.splitlines() == [f"{name}: OK" for name in sorted(names)]


@pytest.mark.parametrize("how", [flip, cut, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_and_made_again(
    whole: Path, tmp_path: Path, name: str, how: Callable[[Path], None]
) -> None:
    root = tmp_path / "toy"
    shutil.copytree(whole / "toy", root)
    assert damage(root) == []
    content = (root / name).read_bytes()
    how(root / name)
    if name == "audit.json" and how is Path.unlink:
        with pytest.raises(FileNotFoundError, match="no audit.json in .*: run .* prepare toy`"):
            load_prepared(root)
    else:
        assert [change.partition(" is ")[0] for change in damage(root)] == [str(root / name)]
        with pytest.raises(ValueError, match=f"^.*{name} is .*: run `resnet-tune prepare toy`$"):
            load_prepared(root)
    prepare(RAGGED, whole / "in", root)
    assert (root / name).read_bytes() == content
    assert damage(root) == []
    load_prepared(root)


@pytest.mark.parametrize("name", [SUMS, f"packed/{SUMS}"])
def test_damaged_digests_are_made_again(whole: Path, tmp_path: Path, name: str) -> None:
    root = tmp_path / "toy"
    shutil.copytree(whole / "toy", root)
    (root / name).write_text("")
    with pytest.raises(ValueError, match="is not as it was written"):
        load_prepared(root)
    prepare(RAGGED, whole / "in", root)
    assert (root / name).read_text() == (whole / "toy" / name).read_text()
    load_prepared(root)


def test_data_of_a_version_without_digests_still_opens(whole: Path, tmp_path: Path) -> None:
    root = tmp_path / "toy"
    shutil.copytree(whole / "toy", root)
    for folder in (root, root / "packed"):
        (folder / SUMS).unlink()
    flip(root / "packed" / "train_valid.npy")
    assert load_prepared(root).fingerprint == load_prepared(whole / "toy").fingerprint
    prepare(RAGGED, whole / "in", root)  # nothing said that the array is sound: it is made again
    assert digest(root / "packed" / "train_valid.npy") == digest(
        whole / "toy" / "packed" / "train_valid.npy"
    )
    assert (root / SUMS).is_file()


def test_digests_are_those_of_sha256sum_and_only_of_the_names_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a b.txt").write_bytes(b"abc")
    (tmp_path / "other").write_bytes(b"")
    assert find_change(tmp_path, ["a b.txt"]) is None  # no digests yet
    write_digests(tmp_path)
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (tmp_path / SUMS).read_text() == (
        f"{abc}  a b.txt\n{hashlib.sha256(b'').hexdigest()}  other\n"
    )
    (tmp_path / "other").write_bytes(b"x")
    assert find_change(tmp_path, ["a b.txt", "never written"]) is None
    assert find_change(tmp_path, ["other"]) == (
        f"{tmp_path / 'other'} is not as it was written: its SHA-256 is not that of SHA256SUMS"
    )
    (tmp_path / "other").unlink()
    assert find_change(tmp_path, ["other"]) == (
        f"{tmp_path / 'other'} is missing, of which SHA256SUMS knows"
    )
