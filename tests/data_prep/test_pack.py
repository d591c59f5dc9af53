"""The packed arrays against the files they were made of."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2  # type: ignore[import-untyped, unused-ignore]

from data_prep.decode_files import decode_usable
from data_prep.layout import Layout
from data_prep.pack import histogram_stats, packed_size
from data_prep.prepare import prepare
from data_prep.prepared import PreparedData
from tests.downloads import LAYOUT, cats_and_dogs, png, write_download

RAGGED = replace(LAYOUT, image_size=None, short_side=6)


def prepared(tmp_path: Path, layout: Layout, images: dict[str, bytes]) -> PreparedData:
    """A download with some images of one's own, prepared."""
    download = write_download(tmp_path / "in", cats_and_dogs(), images)
    return prepare(layout, download, tmp_path / "data" / "toy")


def file_of(data: PreparedData, image_id: str) -> Path:
    """The file of a labelled image."""
    return next(data.root.glob(f"train_valid/*/{image_id}.png"))


def test_images_of_one_size(tmp_path: Path) -> None:
    data = prepared(tmp_path, LAYOUT, {"c3": png(900, (9, 6))})
    packed = json.loads((data.root / "packed" / "packed.json").read_text())
    pixels = np.load(data.root / "packed" / "train_valid.npy", mmap_mode="r")
    assert (pixels.shape, pixels.dtype) == ((20, 4, 4, 3), np.uint8)
    assert packed["layout"] == "fixed"
    assert packed["ids"] == sorted(packed["ids"])
    with (data.root / "split.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert packed["ids"] == [row["id"] for row in rows]
    assert packed["splits"] == [row["split"] for row in rows]
    assert [packed["classes"][i] for i in packed["labels"]] == [row["label"] for row in rows]
    for place, image_id in enumerate(packed["ids"]):
        content = file_of(data, image_id).read_bytes()
        assert packed["digests"][place] == hashlib.sha256(content).hexdigest()
        with Image.open(file_of(data, image_id)) as image:
            resized = image.resize((4, 4), Image.Resampling.BILINEAR)
            expected = resized if image_id == "c3" else image
            np.testing.assert_array_equal(pixels[place], np.asarray(expected))
    test = np.load(data.root / "packed" / "test.npy")
    assert packed["test_ids"] == ["1", "2", "3"]
    with Image.open(data.root / "test" / "unknown" / "2.png") as image:
        np.testing.assert_array_equal(test[1], np.asarray(image))


def test_images_of_any_size(tmp_path: Path) -> None:
    sizes = {"c0": (12, 20), "c1": (20, 12), "c2": (5, 9), "c3": (6, 6), "d0": (7, 100)}
    data = prepared(tmp_path, RAGGED, {i: png(7, size) for i, size in sizes.items()})
    packed = json.loads((data.root / "packed" / "packed.json").read_text())
    flat = np.load(data.root / "packed" / "train_valid.npy", mmap_mode="r")
    shapes = np.load(data.root / "packed" / "train_valid_shapes.npy")
    assert packed["layout"] == "ragged"
    assert (shapes.shape, shapes.dtype) == ((20, 2), np.int32)
    assert flat.shape == (int((shapes.prod(axis=1) * 3).sum()),)
    begin = 0
    for image_id, (height, width) in zip(packed["ids"], shapes.tolist(), strict=True):
        got = flat[begin : begin + height * width * 3].reshape(height, width, 3)
        begin += got.size
        with Image.open(file_of(data, image_id)) as image:
            big = min(image.size) > 6
            expected = v2.functional.resize(image, [6], antialias=True) if big else image
            np.testing.assert_array_equal(got, np.asarray(expected))
    assert np.load(data.root / "packed" / "test_shapes.npy").tolist() == [[4, 4]] * 3


@pytest.mark.parametrize("height", [5, 6, 7, 13, 256, 375])
@pytest.mark.parametrize("width", [6, 8, 31, 500])
def test_sizes_are_those_of_torchvisions_resize(height: int, width: int) -> None:
    got = packed_size(RAGGED, height, width)
    if min(height, width) <= 6:
        assert got == (height, width)
    else:
        image = v2.functional.resize(Image.new("RGB", (width, height)), [6])
        assert got == (image.height, image.width)


def test_channel_statistics_are_those_of_the_training_pixels(tmp_path: Path) -> None:
    for layout, name in ((LAYOUT, "fixed"), (RAGGED, "ragged")):
        data = prepared(tmp_path / name, layout, {"c0": png(3, (30, 8)), "d5": png(4, (9, 9))})
        ids = data.split.loc[data.split["split"] == "train", "id"].tolist()
        arrays = [decode_usable([file_of(data, i)], layout)[0].pixels.reshape(-1, 3) for i in ids]
        pixels = np.concatenate(arrays) / 255
        stats = json.loads((data.root / "stats.json").read_text())
        np.testing.assert_allclose(stats["mean"], pixels.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(stats["std"], pixels.std(axis=0), rtol=1e-12)


def test_statistics_of_one_value() -> None:
    assert histogram_stats([0] * 255 + [4]) == (1.0, 0.0)


def test_a_repeated_seed_and_changed_ingredients_and_the_fingerprint(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs())
    root = tmp_path / "data" / "toy"
    first = prepare(LAYOUT, download, root).fingerprint
    assert prepare(LAYOUT, download, tmp_path / "elsewhere").fingerprint == first
    seen = {first, prepare(LAYOUT, download, root, seed=1).fingerprint}
    seen.add(prepare(LAYOUT, download, root, valid_fraction=0.2).fingerprint)
    seen.add(prepare(replace(LAYOUT, image_size=5), download, root).fingerprint)
    (download / "test" / "3.png").write_bytes(png(4000))
    seen.add(prepare(LAYOUT, download, root).fingerprint)
    assert len(seen) == 5


@pytest.mark.parametrize("name", ["packed.json", "train_valid.npy", "test.npy"])
@pytest.mark.parametrize("how", ["remove", "truncate", "all"])
def test_a_damaged_packed_folder_is_rebuilt(tmp_path: Path, name: str, how: str) -> None:
    data = prepared(tmp_path, LAYOUT, {})
    path = data.root / "packed" / name
    content = path.read_bytes()
    if how == "truncate":
        path.write_bytes(content[:-5])
    else:
        path.unlink()
    if how == "all":
        for other in path.parent.iterdir():
            other.unlink()
        path.parent.rmdir()
    prepare(LAYOUT, tmp_path / "in", data.root)
    assert path.read_bytes() == content


def test_no_test_images(tmp_path: Path) -> None:
    for layout, name in ((LAYOUT, "fixed"), (RAGGED, "ragged")):
        download = write_download(tmp_path / name, cats_and_dogs(), test=0)
        data = prepare(layout, download, tmp_path / "data" / name)
        assert len(np.load(data.root / "packed" / "test.npy", mmap_mode="r")) == 0


def test_decoding_other_images_equals_packing(tmp_path: Path) -> None:
    images = {"c0": png(1, (12, 20)), "c1": png(2, (4, 4)), "d1": png(2, (9, 7))}
    for layout, name in ((LAYOUT, "fixed"), (RAGGED, "ragged")):
        data = prepared(tmp_path / name, layout, images)
        packed = json.loads((data.root / "packed" / "packed.json").read_text())
        arrays = decode_usable([file_of(data, i) for i in packed["ids"]], layout)[0]
        np.testing.assert_array_equal(
            arrays.pixels, np.load(data.root / "packed" / "train_valid.npy")
        )
        if arrays.shapes is not None:
            shapes = np.load(data.root / "packed" / "train_valid_shapes.npy")
            np.testing.assert_array_equal(arrays.shapes, shapes)


def test_decoding_a_file_that_is_no_image_names_it(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("x")
    (tmp_path / "good.png").write_bytes(png(1))
    files = [tmp_path / name for name in ("x.png", "good.png", "y.png")]
    arrays, unusable = decode_usable(files, LAYOUT)
    assert len(arrays.pixels) == 1
    assert unusable == {
        str(tmp_path / "x.png"): "does not decode: not an image",
        str(tmp_path / "y.png"): "cannot be read: No such file or directory",
    }
