"""Finding the download: folders, Kaggle's archives, and archives that mean harm."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import py7zr
import pytest

from data_prep import cifar10, digits, dog_breed
from data_prep.layout import Layout
from data_prep.prepare import prepare
from data_prep.source import find_source
from tests.downloads import LAYOUT, cats_and_dogs, png, unpack_tar, write_download

T = TypeVar("T")


def zip_folder(folder: Path, archive: Path, members: Iterable[str], prefix: str = "") -> None:
    """Pack files and folders that lie in `folder`."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for member in members:
            path = folder / member
            for file in sorted(path.iterdir()) if path.is_dir() else [path]:
                opened.write(file, prefix + file.relative_to(folder).as_posix())


def files_below(folder: Path) -> dict[str, bytes]:
    """Relative path -> content."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*g")}


PARTS = ["train", "test", "labels.csv", "sample.csv"]


def test_one_zip_with_everything(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs())
    packed = tmp_path / "packed"
    packed.mkdir()
    zip_folder(download, packed / "all.zip", PARTS)
    found = find_source(LAYOUT, packed, tmp_path / "aside")
    assert files_below(found.train) == files_below(download / "train")
    assert found.test is not None
    assert files_below(found.test) == files_below(download / "test")
    assert found.sample_submission is not None
    assert found.test_labels is None
    assert [p.name for p in packed.iterdir()] == ["all.zip"]


def test_one_archive_a_part(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs())
    packed = tmp_path / "packed"
    packed.mkdir()
    zip_folder(
        download / "train", packed / "train.zip", [p.name for p in (download / "train").iterdir()]
    )
    zip_folder(download, packed / "labels.csv.zip", ["labels.csv"])
    with py7zr.SevenZipFile(packed / "test.7z", "w") as opened:
        opened.writeall(download / "test", "test")
    shutil.copy(download / "sample.csv", packed)
    found = find_source(LAYOUT, packed, tmp_path / "aside")
    assert files_below(found.train) == files_below(download / "train")
    assert found.test is not None
    assert files_below(found.test) == files_below(download / "test")
    assert found.sample_submission == packed / "sample.csv"


def test_archives_within_an_archive(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs())
    for part in ("train", "test"):
        with py7zr.SevenZipFile(download / f"{part}.7z", "w") as opened:
            opened.writeall(download / part, part)
    packed = tmp_path / "packed"
    packed.mkdir()
    zip_folder(download, packed / "toy.zip", ["train.7z", "test.7z", "labels.csv"], "toy/")
    found = find_source(LAYOUT, packed, tmp_path / "aside")
    assert files_below(found.train) == files_below(download / "train")
    assert not list((tmp_path / "aside").rglob("*.7z"))


def test_unpacking_is_done_once_and_shows_progress(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs())
    packed = tmp_path / "packed"
    packed.mkdir()
    with py7zr.SevenZipFile(packed / "train.7z", "w") as opened:
        opened.writeall(download / "train", "train")
    zip_folder(download, packed / "rest.zip", PARTS[1:])
    shown: dict[str, tuple[int, int]] = {}

    def track(items: Iterable[T], total: int, description: str) -> Iterable[T]:
        for number, item in enumerate(items, start=1):
            shown[description] = (number, total)
            yield item

    find_source(LAYOUT, packed, tmp_path / "aside", track)
    assert shown == {"unpack rest.zip": (5, 5), "unpack train.7z": (20, 20)}
    shown.clear()
    find_source(LAYOUT, packed, tmp_path / "aside", track)
    assert shown == {}
    zip_folder(download, packed / "rest.zip", [*PARTS[2:], "test"], "other/")
    find_source(LAYOUT, packed, tmp_path / "aside", track)
    assert shown  # the archive changed


def test_a_hostile_zip_writes_nothing_elsewhere(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs())
    packed = tmp_path / "packed"
    packed.mkdir()
    zip_folder(download, packed / "all.zip", PARTS)
    link = zipfile.ZipInfo("train/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    names = ["../evil.png", "/train/evil.png", "train/../../evil.png", "C:\\train\\evil.png"]
    with zipfile.ZipFile(packed / "all.zip", "a") as opened:
        opened.writestr(link, "/etc/passwd")
        for name in names:
            opened.writestr(name, b"evil")
        opened.writestr("train/.hidden.png", b"")
        opened.writestr("__MACOSX/train/c0.png", b"")
        opened.writestr("deep/train/c0.png", b"another c0")
    found = find_source(LAYOUT, packed, tmp_path / "aside")
    assert files_below(found.train) == files_below(download / "train")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["aside", "in", "packed"]
    assert len(found.left_packed) == len(names) + 1
    assert not any(p.is_symlink() for p in tmp_path.rglob("*"))


def test_a_7z_with_a_link_writes_no_link(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs())
    os.symlink("/etc/passwd", download / "train" / "link.png")
    with py7zr.SevenZipFile(download / "train.7z", "w") as opened:
        opened.writeall(download / "train", "train")
    shutil.rmtree(download / "train")
    found = find_source(LAYOUT, download, tmp_path / "aside")
    assert len(list(found.train.iterdir())) == 20
    assert not any(p.is_symlink() for p in (tmp_path / "aside").rglob("*"))
    assert len(found.left_packed) == 1


def test_a_damaged_member_is_left_out_and_told(tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.mkdir()
    with zipfile.ZipFile(packed / "all.zip", "w", zipfile.ZIP_STORED) as opened:
        opened.writestr("labels.csv", "id,label\n1,cat\n2,cat\n")
        opened.writestr("train/1.png", png(1))
        opened.writestr("train/2.png", png(2))
    content = (packed / "all.zip").read_bytes()
    damaged = content.replace(png(1)[40:60], bytes(20))
    assert damaged != content
    (packed / "all.zip").write_bytes(damaged)
    found = find_source(LAYOUT, packed, tmp_path / "aside")
    assert [p.name for p in found.train.iterdir()] == ["2.png"]
    assert "'train/1.png': damaged" in found.left_packed[0]


@pytest.mark.parametrize("name", ["train.zip", "train.7z"])
def test_a_truncated_archive_is_one_clear_line(tmp_path: Path, name: str) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs())
    if name.endswith("zip"):
        zip_folder(download, download / name, ["train"])
    else:
        with py7zr.SevenZipFile(download / name, "w") as opened:
            opened.writeall(download / "train", "train")
    content = (download / name).read_bytes()
    (download / name).write_bytes(content[: len(content) // 2])
    shutil.rmtree(download / "train")
    with pytest.raises(ValueError, match=f"{name} cannot be unpacked.*download it again") as error:
        prepare(LAYOUT, download, tmp_path / "data" / "toy")
    assert "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_damaged_7z_content_is_one_clear_line(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs())
    with py7zr.SevenZipFile(download / "train.7z", "w") as opened:
        opened.writeall(download / "train", "train")
    content = bytearray((download / "train.7z").read_bytes())
    content[300:340] = bytes(40)
    (download / "train.7z").write_bytes(content)
    shutil.rmtree(download / "train")
    with pytest.raises(ValueError, match=r"train\.7z cannot be unpacked") as error:
        prepare(LAYOUT, download, tmp_path / "data" / "toy")
    assert "\n" not in str(error.value)


def test_an_encrypted_zip_is_one_clear_line(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs())
    zip_folder(download, download / "train.zip", ["train"])
    content = bytearray((download / "train.zip").read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(signature)
        while place >= 0:
            content[place + flags] |= 1
            place = content.find(signature, place + 1)
    (download / "train.zip").write_bytes(content)
    shutil.rmtree(download / "train")
    with pytest.raises(ValueError, match=r"train\.zip cannot be unpacked .*encrypted"):
        find_source(LAYOUT, download, tmp_path / "aside")


@pytest.mark.parametrize("what", ["nowhere", "file", "empty", "labels_only", "empty_train"])
def test_a_folder_that_is_no_download(tmp_path: Path, what: str) -> None:
    source = tmp_path / "in"
    if what == "file":
        source.write_text("x")
    elif what != "nowhere":
        source.mkdir()
    if what in ("labels_only", "empty_train"):
        (source / "labels.csv").write_text("id,label\n1,cat\n")
    if what == "empty_train":
        (source / "train").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"in (is neither a|does not hold labels\.csv and)"):
        prepare(LAYOUT, source, tmp_path / "data" / "toy")
    assert sorted(tmp_path.rglob("*")) == before


def test_without_a_source() -> None:
    with pytest.raises(ValueError, match="toy needs Kaggle's download"):
        find_source(LAYOUT, None, Path("nowhere"))


def test_a_layout_has_one_way_to_size_images() -> None:
    with pytest.raises(ValueError, match="either image_size or short_side"):
        Layout("t", "l.csv", "label", "s.csv")


def test_d2ls_small_sample(tmp_path: Path, shared_data: Path) -> None:
    unpack_tar(shared_data / "d2l_kaggle_cifar10_1000samples.tar.gz", tmp_path)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    prepared = prepare(cifar10.LAYOUT, folder, tmp_path / "data" / "cifar10")
    assert len(prepared.split) == 1000
    assert (prepared.split["split"] == "valid").sum() == 100
    assert "missing files 49,000" in prepared.summary
    assert len(list((prepared.root / "test" / "unknown").iterdir())) == 100


def test_the_digits_are_written_alike_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        digits.write_source(tmp_path / name)
    assert files_below(tmp_path / "one") == files_below(tmp_path / "two")
    labels = (tmp_path / "one" / "trainLabels.csv").read_text().splitlines()[1:]
    answers = (tmp_path / "one" / "testLabels.csv").read_text().splitlines()[1:]
    assert len(labels) + len(answers) == 1797
    for digit in range(10):
        share = sum(row.endswith(f",{digit}") for row in answers) / len(answers)
        assert abs(share - 0.1) < 0.01
    assert len({row.split(",")[1] for row in labels[:30]}) > 5  # shuffled


def test_the_layouts_name_kaggles_files() -> None:
    assert (dog_breed.LAYOUT.labels, dog_breed.LAYOUT.label_column) == ("labels.csv", "breed")
    assert (cifar10.LAYOUT.labels, cifar10.LAYOUT.image_size) == ("trainLabels.csv", 32)
