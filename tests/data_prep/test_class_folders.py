"""Classes as folders, however they are wrapped, split or packed."""

from __future__ import annotations

import csv
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import py7zr
import pytest

from data_prep import cifar10
from data_prep.layout import Layout
from data_prep.prepare import prepare
from data_prep.prepared import PreparedData
from tests.downloads import LAYOUT, cats_and_dogs, png, unpack_tar, write_images, write_table

ANY = Layout(task="any", image_size=4)
ROWS = cats_and_dogs(15)
FILES = [f"{label}/{row_id}.png" for row_id, label in ROWS]


def prepared(source: Path, layout: Layout = ANY) -> PreparedData:
    """The source, prepared beside it."""
    return prepare(layout, source, source.parent / f"{source.name}-data")


def labels_of(data: PreparedData) -> dict[str, str]:
    """Id -> label."""
    return dict(zip(data.split["id"], data.split["label"], strict=True))


@pytest.mark.parametrize("layout", [ANY, LAYOUT])
@pytest.mark.parametrize(
    "folder", ["", "train", "Train", "train/train", "outer/train", "my data/pictures", "a/b/train"]
)
def test_class_folders_anywhere_are_split_like_the_table(
    tmp_path: Path, layout: Layout, folder: str
) -> None:
    write_images(tmp_path / "in" / folder, FILES)
    data = prepared(tmp_path / "in", layout)
    table = prepared(write_table(tmp_path / "table", ROWS))
    assert labels_of(data) == dict(ROWS)
    assert data.fingerprint == table.fingerprint
    assert "classes: the folders in " in data.summary


def test_nested_folders_mixed_suffixes_and_other_files(tmp_path: Path) -> None:
    names = [
        f"{label}/{'in/deep' if n % 2 else ''}/{i}{('.JPG', '.png', '.webp')[n % 3]}"
        for n, (i, label) in enumerate(ROWS)
    ]
    source = write_images(tmp_path / "in" / "train", names).parent
    (source / "train" / "cat" / "notes.txt").write_text("x")
    (source / "train" / "cat" / "._c0.png").write_bytes(b"x")
    (source / "train" / ".fox").mkdir()
    (source / "train" / ".fox" / "f.png").write_bytes(png(900))
    (source / "train" / "loose.png").write_bytes(png(901))
    (source / "train" / "emu").mkdir()
    (source / "README.md").write_text("x")
    data = prepared(source)
    assert labels_of(data) == dict(ROWS)
    record = json.loads((data.root / "audit.json").read_text())
    left = [".fox/f.png", "cat/._c0.png", "cat/notes.txt", "loose.png"]
    assert record["skipped"]["unlabelled_files"] == left
    assert "CLASSES LOST, without one usable image: emu (0 labelled)" in data.summary


def test_ids_are_paths_where_names_are_not_unique(tmp_path: Path) -> None:
    names = [f"{label}/{n % 15}.png" for n, (_, label) in enumerate(ROWS)]
    names += ["cat/only.png", "dog/x.png", "dog/x.png.jpg"]
    data = prepared(write_images(tmp_path / "in" / "train", names).parent)
    expected = {name: name.split("/")[0] for name in names[:30]}
    expected |= {"only": "cat", "x": "dog", "x.png": "dog"}
    assert labels_of(data) == expected
    assert (data.root / "train_valid" / "cat" / "cat%2F0.png").is_file()
    table = write_table(
        tmp_path / "table",
        [(name, name.split("/")[0]) for name in names],
        files=names,
    )
    assert prepared(table).fingerprint == data.fingerprint


def test_a_given_validation_side_is_the_split(tmp_path: Path) -> None:
    write_images(tmp_path / "in" / "train", FILES)
    valid = ["cat/v0.png", "dog/v1.png", "dog/v2.png", "dog/d0.png"]
    write_images(tmp_path / "in" / "val", valid, first=500)
    data = prepared(tmp_path / "in")
    sides = dict(zip(data.split["id"], data.split["split"], strict=True))
    assert {i for i, side in sides.items() if side == "valid"} == {
        "v0",
        "v1",
        "v2",
        "valid/dog/d0.png",
    }
    assert len(sides) == 34
    assert "split: as given by the folders train and valid" in data.summary
    again = prepare(ANY, tmp_path / "in", data.root, valid_fraction=0.5, seed=3)
    assert again.fingerprint == data.fingerprint
    (tmp_path / "in" / "val" / "emu").mkdir()
    (tmp_path / "in" / "val" / "emu" / "e.png").write_bytes(png(1))  # an image of train as well
    data = prepared(tmp_path / "in")
    assert "classes on one side of the split only: emu" in data.summary
    assert "groups of identical images, 1 of them on both sides of the split: 1" in data.summary


def test_a_given_side_without_a_usable_image_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "in" / "train", FILES)
    (tmp_path / "in" / "valid" / "cat").mkdir(parents=True)
    (tmp_path / "in" / "valid" / "cat" / "x.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"valid has no usable image: a split that is given needs"):
        prepared(tmp_path / "in")


@pytest.mark.parametrize("folder", ["test", "test/test"])
def test_labels_of_test_folders_are_an_answer_key_alone(tmp_path: Path, folder: str) -> None:
    write_images(tmp_path / "in" / "train", FILES)
    names = ["cat/t0.png", "dog/t1.png", "dog/t2.JPG"]
    write_images(tmp_path / "in" / folder, names, first=700)
    data = prepared(tmp_path / "in")
    assert data.test_labels is not None
    assert data.test_labels.read_text() == "id,label\nt0,cat\nt1,dog\nt2,dog\n"
    assert len(labels_of(data)) == 30
    files = {path.name for path in (data.root / "test").rglob("*") if path.is_file()}
    assert files == {"t0.png", "t1.png", "t2.jpg"}
    before = {
        p: p.read_bytes() for p in data.root.rglob("*") if p.is_file() and ".prepare" not in p.parts
    }
    test = tmp_path / "in" / folder
    (test / "cat" / "t0.png").rename(test / "swap.png")
    (test / "dog" / "t1.png").rename(test / "cat" / "t1.png")
    (test / "swap.png").rename(test / "dog" / "t0.png")
    prepared(tmp_path / "in")
    changed = {p.name for p, content in before.items() if p.read_bytes() != content}
    assert changed == {"test_labels.csv", "SHA256SUMS"}


@pytest.mark.parametrize(
    ("train", "valid", "test"),
    [
        ("Training", "Validation", "Testing"),
        ("training_set", "val_set", "test_set"),
        ("seg_train/seg_train", "seg_val/seg_val", "seg_test/seg_test"),
        ("data/train_images", "data/valid images", "data/testimgs"),
    ],
)
def test_parts_are_known_by_words_in_their_names(
    tmp_path: Path, train: str, valid: str, test: str
) -> None:
    write_images(tmp_path / "in" / train, FILES)
    write_images(tmp_path / "in" / valid, ["cat/v0.png", "dog/v1.png"], first=500)
    write_images(tmp_path / "in" / test, ["cat/t0.png", "dog/t1.png"], first=700)
    data = prepared(tmp_path / "in")
    assert labels_of(data) == {**dict(ROWS), "v0": "cat", "v1": "dog"}
    assert data.split["split"].tolist().count("valid") == 2
    assert data.test_labels is not None
    assert data.test_labels.read_text() == "id,label\nt0,cat\nt1,dog\n"


def test_words_in_the_names_of_classes_make_no_parts(tmp_path: Path) -> None:
    names = [f"{label}/{label[-1]}{n}.png" for label in ("bus", "night_train") for n in range(5)]
    assert prepared(write_images(tmp_path / "in", names)).classes == ("bus", "night_train")


def test_names_that_look_alike_are_one_class(tmp_path: Path) -> None:
    accent, letter = "Ba\u0308r", "B\u00e4r"  # as macOS writes it, and as others do
    names = [f"{name}/{n}{label}.png" for n in range(5) for label, name in enumerate([accent, "x"])]
    write_images(tmp_path / "in" / "train", names)
    write_images(tmp_path / "in" / "valid", [f"{letter}/v.png", "x/w.png"], first=500)
    write_images(tmp_path / "in" / "test", [f"{letter}/t.png"], first=700)
    (tmp_path / "in" / "sample_submission.csv").write_text(f"id,{accent},x\nt,.5,.5\n")
    data = prepared(tmp_path / "in")
    assert data.classes == (letter, "x")
    assert data.test_labels is not None
    assert data.test_labels.read_text() == f"id,label\nt,{letter}\n"
    assert data.sample is not None
    assert (data.sample.class_columns, data.sample.classes) == ((accent, "x"), (letter, "x"))
    table = write_table(tmp_path / "table", [("a", accent), ("b", letter), ("c", "x"), ("d", "x")])
    assert prepared(table).classes == (letter, "x")


def test_test_folders_that_are_no_classes_are_no_key(tmp_path: Path) -> None:
    write_images(tmp_path / "in" / "train", FILES)
    write_images(tmp_path / "in" / "test", ["unknown/1.png", "unknown/2.png"], first=700)
    data = prepared(tmp_path / "in")
    assert data.test_labels is None
    assert "3 valid; 2 test images" in data.summary


def test_a_class_called_train_or_two_folders_called_train(tmp_path: Path) -> None:
    write_images(tmp_path / "in", ["train/a.png", "train/b.png", "bus/c.png", "bus/d.png"])
    assert prepared(tmp_path / "in").classes == ("bus", "train")
    write_images(tmp_path / "two", ["cat/train/a.png", "dog/train/b.png", "cat/test/c.png"])
    with pytest.raises(ValueError, match=r"has train/ in several folders \(cat, dog\)"):
        prepared(tmp_path / "two")


def test_a_table_of_other_things_does_not_replace_the_folders(tmp_path: Path) -> None:
    write_images(tmp_path / "in" / "train", FILES)
    lines = [f"{row_id}.png,{n}" for n, (row_id, _) in enumerate(ROWS)]
    (tmp_path / "in" / "sizes.csv").write_text("\n".join(["file,width", *lines]))
    assert labels_of(prepared(tmp_path / "in")) == dict(ROWS)


def test_prepared_data_inside_the_source_are_no_images_of_it(tmp_path: Path) -> None:
    source = write_images(tmp_path / "in", FILES)
    data = prepare(ANY, source, source / "data" / "any")
    again = prepare(ANY, source, source / "data" / "any")
    assert again.fingerprint == data.fingerprint
    assert again.classes == ("cat", "dog")


def test_images_in_other_places_are_counted(tmp_path: Path) -> None:
    write_images(tmp_path / "in" / "outer" / "train", FILES)
    write_images(tmp_path / "in", ["outer/extra/deep/a.png", "outer/loose.png"], first=300)
    data = prepared(tmp_path / "in")
    told = "unused folders 2 (outer: 1 images, outer/extra/deep: 1 images)"
    assert labels_of(data) == dict(ROWS)
    assert told in data.summary


def test_images_without_classes_are_told(tmp_path: Path) -> None:
    write_images(tmp_path / "in" / "train", ["a.png", "b.png"])
    with pytest.raises(ValueError, match="holds no class folders.*its 2 images: put each class in"):
        prepared(tmp_path / "in")
    with pytest.raises(ValueError, match=r"does not hold class folders \(train/<class>/"):
        prepared(write_images(tmp_path / "none", ["x/notes.txt"]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "none"]


def test_one_class_is_said(tmp_path: Path) -> None:
    data = prepared(write_images(tmp_path / "in", [f"cat/{n}.png" for n in range(9)]))
    assert data.classes == ("cat",)
    assert "only one class (cat), which leaves nothing to tell apart" in data.summary
    assert "no test images: there is nothing to predict" in data.summary


def pack(folder: Path, archive: Path, inside: str = "") -> None:
    """Pack a folder's content; `inside` is the folder it gets in the archive."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as opened:
            for path in sorted(folder.rglob("*.png")):
                opened.write(path, f"{inside}{path.relative_to(folder).as_posix()}")
    elif archive.suffix == ".7z":
        with py7zr.SevenZipFile(archive, "w") as opened:
            opened.writeall(folder, inside.rstrip("/") or ".")
    else:
        with tarfile.open(archive, "w:gz") as opened:
            opened.add(folder, inside.rstrip("/") or ".")


@pytest.mark.parametrize("name", ["any.zip", "any.7z", "any.tar.gz", "train.zip", "train.tgz"])
@pytest.mark.parametrize("inside", ["", "train/", "data/train/"])
def test_archives_of_class_folders(tmp_path: Path, name: str, inside: str) -> None:
    write_images(tmp_path / "files", FILES)
    (tmp_path / "in").mkdir()
    pack(tmp_path / "files", tmp_path / "in" / name, inside)
    data = prepared(tmp_path / "in")
    assert labels_of(data) == dict(ROWS)
    assert data.fingerprint == prepared(write_table(tmp_path / "table", ROWS)).fingerprint


def test_an_archive_a_class_or_a_side(tmp_path: Path) -> None:
    write_images(tmp_path / "files", FILES)
    for label in ("cat", "dog"):
        (tmp_path / "in").mkdir(exist_ok=True)
        pack(tmp_path / "files" / label, tmp_path / "in" / f"{label}.zip")
    assert labels_of(prepared(tmp_path / "in")) == dict(ROWS)
    (tmp_path / "two").mkdir()
    pack(tmp_path / "files", tmp_path / "two" / "train.zip")
    write_images(tmp_path / "test", ["cat/t.png"], first=700)
    pack(tmp_path / "test", tmp_path / "two" / "test.zip")
    data = prepared(tmp_path / "two")
    assert labels_of(data) == dict(ROWS)
    assert data.test_labels is not None


def test_an_archive_beside_its_own_unpacked_folders_adds_nothing(tmp_path: Path) -> None:
    write_images(tmp_path / "in", FILES)
    pack(tmp_path / "in", tmp_path / "backup.zip")
    shutil.move(tmp_path / "backup.zip", tmp_path / "in")
    data = prepared(tmp_path / "in")
    assert labels_of(data) == dict(ROWS)
    assert not list((data.root / ".prepare").rglob("*.png"))


def test_linked_class_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write_images(tmp_path / "store", FILES)
    train = tmp_path / "in" / "train"
    train.mkdir(parents=True)
    for label in ("cat", "dog"):
        (train / label).symlink_to(tmp_path / "store" / label)
    (tmp_path / "store" / "cat" / "again").symlink_to(train)
    data = prepared(tmp_path / "in")
    assert labels_of(data)["c0"] == "cat"
    assert set(data.classes) == {"cat", "dog"}


def test_real_images_as_class_folders(tmp_path: Path, shared_data: Path) -> None:
    unpack_tar(shared_data / "cifar10_kaggle_5000_1000.tar.gz", tmp_path)
    kaggle = tmp_path / "cifar10_kaggle_5000_1000"
    folders = tmp_path / "folders"
    for part, table in (("train", "trainLabels.csv"), ("test", "testLabels.csv")):
        with (kaggle / table).open() as file:
            for row in csv.DictReader(file):
                target = folders / part / row["label"] / f"{row['id']}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.hardlink_to(kaggle / part / f"{row['id']}.png")
    one = prepare(cifar10.LAYOUT, kaggle, tmp_path / "one")
    two = prepare(cifar10.LAYOUT, folders, tmp_path / "two")
    assert one.fingerprint == two.fingerprint
    assert one.split.equals(two.split)
    for name in ("train_valid.npy", "test.npy"):
        pixels = [np.load(data.root / "packed" / name, mmap_mode="r") for data in (one, two)]
        assert np.array_equal(*pixels)
    assert (one.root / "stats.json").read_bytes() == (two.root / "stats.json").read_bytes()
    keys = [data.root / "test_labels.csv" for data in (one, two)]
    assert set(keys[0].read_text().split()) == set(keys[1].read_text().split())
