"""The same real images in five shapes that people have: the same classes, split and pixels."""

from __future__ import annotations

import csv
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data_prep.layout import Layout
from data_prep.prepare import prepare
from data_prep.prepared import PreparedData
from tests.downloads import png, unpack_tar

ANY = Layout(task="any", short_side=64)
BREEDS = {  # fifteen breeds of twenty images each
    "affenpinscher": "猴头梗",
    "beagle": "比格犬",
    "borzoi": "苏俄猎狼犬",
    "boxer": "拳师犬",
    "chow": "松狮犬",
    "collie": "牧羊犬",
    "dingo": "澳洲野狗",
    "komondor": "可蒙犬",
    "kuvasz": "库瓦兹犬",
    "malamute": "雪橇犬",
    "pug": "哈巴狗",
    "redbone": "红骨猎浣熊犬",
    "saluki": "东非猎犬",
    "schipperke": "舒柏奇犬",
    "whippet": "惠比特犬",
}
SHAPES = ("folders", "suffixes", "sub_folders", "gbk", "zip")


def write_shape(shape: str, images: dict[str, tuple[Path, str]], folder: Path) -> None:
    """Write the images, id -> file and label, in one shape."""
    nested = shape in ("folders", "sub_folders", "zip")
    for image, (file, label) in images.items():
        target = folder / "train" / (label if nested else "") / f"{image}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.hardlink_to(file)
    if shape == "zip":
        with zipfile.ZipFile(folder / "images.zip", "w", strict_timestamps=False) as opened:
            for path in sorted(folder.rglob("*.jpg")):
                opened.write(path, path.relative_to(folder / "train").as_posix())
        shutil.rmtree(folder / "train")
    lines = {
        "suffixes": [f"{image}.jpg,{label}" for image, (_, label) in images.items()],
        "sub_folders": [f"{label}/{image}.jpg,{label}" for image, (_, label) in images.items()],
        "gbk": [f"{image};{label}" for image, (_, label) in images.items()],
    }.get(shape)
    header = {"gbk": "id;breed", "suffixes": "image_id,species", "sub_folders": "file,label"}
    if lines is not None:
        text = "\n".join([header[shape], *lines])
        (folder / "table.csv").write_bytes(text.encode("gbk" if shape == "gbk" else "utf-8"))


def test_five_shapes_of_the_same_images(tmp_path: Path, shared_data: Path) -> None:
    unpack_tar(shared_data / "dog_kaggle_120x20_short256.tar", tmp_path)
    download = tmp_path / "dog_kaggle_120x20_short256"
    with (download / "labels.csv").open() as file:
        breeds = {row["id"]: row["breed"] for row in csv.DictReader(file)}
    images = {
        image: (download / "train" / f"{image}.jpg", BREEDS[breed])
        for image, breed in breeds.items()
        if breed in BREEDS
    }
    found: dict[str, PreparedData] = {}
    for shape in SHAPES:
        write_shape(shape, images, tmp_path / shape)
        found[shape] = prepare(ANY, tmp_path / shape, tmp_path / "data" / shape)
    first = found["folders"]
    pixels = np.load(first.root / "packed" / "train_valid.npy")
    assert first.split["split"].value_counts().to_dict() == {"train": 270, "valid": 30}
    for data in found.values():
        assert data.classes == tuple(sorted(BREEDS.values()))
        assert data.split.equals(first.split)
        assert data.fingerprint == first.fingerprint
        assert np.array_equal(np.load(data.root / "packed" / "train_valid.npy"), pixels)
        assert "no test images: there is nothing to predict" in data.summary


def old_zip(archive: Path, names: list[bytes], content: bytes) -> None:
    """A zip whose names are not marked as UTF-8, as Windows wrote them."""
    stand_ins = [f"{'x' * (len(name) - 4)}.png" for name in names]
    assert len(set(map(len, names))) == len(names)
    with zipfile.ZipFile(archive, "w") as opened:
        for stand_in in stand_ins:
            opened.writestr(stand_in, content + bytes([len(stand_in)]))
    packed = archive.read_bytes()
    for name, stand_in in sorted(zip(names, stand_ins, strict=True), key=lambda two: -len(two[0])):
        packed = packed.replace(stand_in.encode(), name)
    archive.write_bytes(packed)


def test_old_names_in_a_zip_archive(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    names = ["狗/a.png", "狗/ab.png", "鸟/abc.png", "鸟/abcd.png", "兔/abcde.png"]
    old_zip(tmp_path / "in" / "all.zip", [name.encode("gbk") for name in names], png(1))
    data = prepare(ANY, tmp_path / "in", tmp_path / "data" / "any")
    assert set(data.classes) == {"狗", "鸟", "兔"}
    (tmp_path / "two").mkdir()
    names = ["chèvre/a.png", "chèvre/ab.png", "chien/abcdef.png"]
    old_zip(tmp_path / "two" / "all.zip", [name.encode("latin-1") for name in names], png(1))
    with pytest.raises(ValueError, match=r"names in .*all\.zip is not UTF-8 .* --encoding"):
        prepare(ANY, tmp_path / "two", tmp_path / "data" / "two")
