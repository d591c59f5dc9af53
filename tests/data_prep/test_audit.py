"""Damaged and hostile downloads: what cannot be used is left out and told, and nothing else is."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from data_prep.files import is_plain_name
from data_prep.images import decode
from data_prep.labels import read_labels
from data_prep.layout import FOUND
from data_prep.prepare import prepare
from data_prep.tables import read_table
from tests.downloads import LAYOUT, cats_and_dogs, png, write_download


def audited(tmp_path: Path, download: Path) -> dict[str, Any]:
    """audit.json of a download."""
    prepare(LAYOUT, download, tmp_path / "data" / "toy")
    record: dict[str, Any] = json.loads((tmp_path / "data" / "toy" / "audit.json").read_text())
    return record


def test_a_clean_download_has_nothing_to_tell(tmp_path: Path) -> None:
    record = audited(tmp_path, write_download(tmp_path / "in", cats_and_dogs()))
    assert all(names == [] for names in record["skipped"].values())
    assert record["counts"]["labelled"] == record["counts"]["label_rows"] == 20
    assert (record["counts"]["train"], record["counts"]["valid"]) == (18, 2)
    assert record["counts"]["test"] == 3
    assert record["duplicates"] == record["conflicts"] == record["small_classes"] == []
    assert (record["valid_fraction"], record["seed"]) == (0.1, 0)


def test_everything_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    rows = cats_and_dogs()
    download = write_download(tmp_path / "in", [*rows, ("lone", "emu")])
    train = download / "train"
    (train / "c0.png").unlink()
    (train / "c1.png").write_bytes(png(77, (32, 32))[:1500])
    (train / "c2.png").write_bytes(b"")
    (train / "c3.png").unlink()
    (train / "c3.png").mkdir()
    (train / "extra.png").write_bytes(png(78))
    (train / "Thumbs.db").write_bytes(b"x")
    (download / "test" / "2.png").write_bytes(b"no image")
    (download / "test" / "9.png").write_bytes(png(0, (5, 5)))
    record = audited(tmp_path, download)
    assert {name: found for name, found in record["skipped"].items() if found} == {
        "missing_files": ["c0", "c3"],
        "unlabelled_files": ["Thumbs.db", "c3.png", "extra.png"],
        "undecodable": [
            "c1.png: does not decode: image file is truncated",
            "c2.png: does not decode: not an image",
        ],
        "undecodable_test": ["2.png: does not decode: not an image"],
        "sample_ids_without_image": ["2"],
        "test_images_not_in_sample": ["9"],
    }
    assert record["small_classes"] == ["emu"]
    assert record["counts"]["labelled"] == 17
    assert record["counts"]["undecodable"] == 2
    root = tmp_path / "data" / "toy"
    assert (root / "train" / "emu" / "lone.png").is_file()
    assert not (root / "valid" / "emu").exists()


def test_identical_images_and_conflicting_labels_are_told(tmp_path: Path) -> None:
    same = {"c0": png(500), "c1": png(500), "c2": png(501), "d2": png(501)}
    download = write_download(tmp_path / "in", cats_and_dogs(), same)
    (download / "test" / "1.png").write_bytes(png(500))
    record = audited(tmp_path, download)
    assert record["duplicates"] == [["c0", "c1"], ["c2", "d2"]]
    assert record["conflicts"] == [{"ids": ["c2", "d2"], "labels": ["cat", "dog"]}]
    assert record["test_in_train"] == ["1"]
    assert record["counts"]["labelled"] == 20
    text = prepare(LAYOUT, download, tmp_path / "data" / "toy").summary
    assert "identical images, each kept on one side: 2, with different labels: 1" in text


def test_names_in_the_csv_are_not_trusted(tmp_path: Path) -> None:
    rows = cats_and_dogs()
    download = write_download(tmp_path / "in", rows)
    other_ids = ["/etc/passwd", ".hidden", "a/b", "a\\b", "C:x", "..", "é" * 120, "../etc/c0"]
    bad_ids = ["", "x\x01y"]
    bad_labels = ["", "bell\x07", "two\u2028lines"]
    with (download / "labels.csv").open("a", encoding="utf-8") as file:
        file.writelines(f"{name},cat\n" for name in [*bad_ids, *other_ids])
        file.writelines(f"n{i},{label}\n" for i, label in enumerate(bad_labels))
        file.write('"nul\0",cat\n"line\nend",cat\nshort\n\nd9,dog\nd8,cat\n')
    for name in ("n0", "n1"):
        (download / "train" / f"{name}.png").write_bytes(png(5))
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "x.png").write_bytes(png(6))
    record = audited(tmp_path, download)
    assert record["counts"]["bad_ids"] == len(bad_ids) + 2
    assert record["counts"]["bad_labels"] == len(bad_labels) + 1
    assert record["skipped"]["repeated_ids"] == ["../etc/c0", "d9"]  # an id is no path to follow
    assert record["skipped"]["missing_files"] == sorted(other_ids[:-1])
    assert record["skipped"]["contradictory_ids"] == ["d8"]
    assert record["counts"]["labelled"] == 19
    number = len(bad_ids) + len(bad_labels) + len(other_ids)
    assert record["counts"]["label_rows"] == 20 + number + 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "etc", "in"]
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["toy"]


@pytest.mark.parametrize("name", ["a", "boston_bull", "Chien d'été", "a.b", "-x", "a b", "x" * 200])
def test_ordinary_names_are_plain(name: str) -> None:
    assert is_plain_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "a/b", "/a", "a\\b", "c:", "a\n", "\0", "a\u2028b", "\udc80"]
)
def test_other_names_are_not(name: str) -> None:
    assert not is_plain_name(name)


def test_a_csv_of_another_shape_says_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("image,width,height\n1,3,4\n")
    with pytest.raises(
        ValueError, match=r"labels\.csv has several columns.*name one with --label-"
    ):
        read_labels(read_table(path), ["1.png"], FOUND)
    path.write_text("image\n1\n")
    with pytest.raises(ValueError, match=r"no column of labels \(image\): name one"):
        read_labels(read_table(path), ["1.png"], FOUND)
    path.write_text("\n")
    with pytest.raises(ValueError, match=r"labels\.csv is empty: its first line must name"):
        read_table(path)


def test_labels_are_read_as_text(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("\ufeffother, label ,id\n0,NA, 007\n0,1.0,08,surplus\n", encoding="utf-8")
    found = read_labels(read_table(path), ["007.png", "08.JPG"], FOUND, "label")
    assert found.labels == {"007.png": "NA", "08.JPG": "1.0"}


@pytest.mark.parametrize("lines", ["id,label\n", "id,label\n1,\n", "id,label\nx,cat\ny,dog\n"])
def test_nothing_usable_is_an_error_and_leaves_nothing(tmp_path: Path, lines: str) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs(1))
    (download / "labels.csv").write_text(lines)
    with pytest.raises(
        ValueError, match="no usable labelled image in .*check that labels"
    ) as error:
        prepare(LAYOUT, download, tmp_path / "data" / "toy")
    assert "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_decompression_bomb_is_not_decoded() -> None:
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9)))
    with pytest.raises(ValueError, match="pixels"):
        decode(bomb + chunk(b"IEND", b""))


def test_postscript_is_not_run() -> None:
    with pytest.raises(ValueError, match="not an image"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")


def test_odd_but_readable_images_are_used(tmp_path: Path) -> None:
    from io import BytesIO

    from PIL import Image

    images: dict[str, bytes] = {}
    for number, mode in enumerate(["L", "P", "RGBA", "1", "CMYK", "LA"]):
        file = BytesIO()
        kind = "JPEG" if mode == "CMYK" else "PNG"  # a JPEG that is called .png
        Image.new("RGB", (9, 7), (10 * number, 3, 200)).convert(mode).save(file, kind)
        images[f"c{number}"] = file.getvalue()
    record = audited(tmp_path, write_download(tmp_path / "in", cats_and_dogs(), images))
    assert record["counts"]["labelled"] == 20
    assert record["counts"]["undecodable"] == 0
