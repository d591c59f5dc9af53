"""Sources of batches over packed folders."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.packed_folders import write_digits
from trainables import digits
from trainables.augment import Augmentation
from trainables.data import MIRRORED, TaskData, load_packed, shuffled_batches
from trainables.small_images import SmallImages

CONFIG = dataclasses.replace(digits.CONFIG, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), 101)


@pytest.fixture(scope="module")
def data(folder: Path) -> TaskData:
    return digits.load_data(folder, CONFIG)


def small(source: object) -> SmallImages:
    assert isinstance(source, SmallImages)
    return source


def test_splits_are_disjoint_and_share_one_memory_map(folder: Path, data: TaskData) -> None:
    train, valid, both = small(data.train), small(data.valid), small(data.train_valid)
    rows = [set(source.rows.tolist()) for source in (train, valid, both)]
    assert not rows[0] & rows[1]
    assert rows[0] | rows[1] == rows[2] == set(range(101))
    assert len({source.images.data_ptr() for source in (train, valid, both)}) == 1
    record = json.loads((folder / "packed" / "packed.json").read_text())
    assert list(data.valid_ids) == [record["ids"][row] for row in valid.rows.tolist()]
    assert list(data.valid_labels) == [record["labels"][row] for row in valid.rows.tolist()]
    assert len(data.test) == len(data.test_ids) == 40
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(folder / "packed" / "train_valid.npy") in maps.read_text()


def test_training_never_writes_to_the_shared_file(folder: Path, data: TaskData) -> None:
    before = np.load(folder / "packed" / "train_valid.npy")
    list(data.train.train_batches(16, 1, 0))
    assert np.array_equal(np.load(folder / "packed" / "train_valid.npy"), before)
    assert np.array_equal(small(data.train).images.numpy(), before)


def test_eval_batches_are_all_images_in_order_normalised(data: TaskData) -> None:
    for size in (1, 7, 1000):
        images, labels = (
            torch.cat(part) for part in zip(*data.valid.eval_batches(size), strict=True)
        )
        assert labels.tolist() == list(data.valid_labels)
        pixels = small(data.valid).images[small(data.valid).rows].permute(0, 3, 1, 2) / 255
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in (data.mean, data.std))
        torch.testing.assert_close(images, (pixels - mean) / std, rtol=0, atol=1e-5)
        flipped = torch.cat([batch for batch, _ in data.valid.eval_batches(size, MIRRORED)])
        assert torch.equal(flipped, images.flip(3))


def test_shifts_are_those_of_numpy(data: TaskData) -> None:
    """By a pixel; what comes in at the border is the row or column beside it, reflected."""
    assert data.valid.looks == ("up", "down", "left", "right")
    images = torch.cat([batch for batch, _ in data.valid.eval_batches(50)]).numpy()
    padded = np.pad(images, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="reflect")
    places = {"up": (2, 1), "down": (0, 1), "left": (1, 2), "right": (1, 0)}
    for look, (row, column) in places.items():
        found = torch.cat([batch for batch, _ in data.valid.eval_batches(7, look)]).numpy()
        assert np.array_equal(found, padded[:, :, row : row + 8, column : column + 8])


def test_each_epoch_is_another_order_of_all_images(data: TaskData) -> None:
    plain = dataclasses.replace(small(data.train), augmentation=Augmentation())

    def epoch(number: int, seed: int = 0) -> tuple[list[str], list[int]]:
        images, labels = (
            torch.cat(part) for part in zip(*plain.train_batches(16, number, seed), strict=True)
        )
        return [image.numpy().tobytes().hex() for image in images], labels.tolist()

    first = epoch(1)
    assert epoch(1) == first
    assert epoch(2) != first
    assert epoch(1, seed=1) != first
    assert sorted(zip(*epoch(2), strict=True)) == sorted(zip(*first, strict=True))
    assert len(first[1]) == len(data.train)


def test_augmentation_does_not_depend_on_the_batch_size(data: TaskData) -> None:
    whole, parts = (
        torch.cat([images for images, _ in data.train.train_batches(size, 3, 0)])
        for size in (1000, 9)
    )
    assert torch.equal(whole, parts)


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [
        (10, 5, [5, 5]),
        (12, 5, [5, 5, 2]),
        (11, 5, [5, 6]),
        (1, 5, [1]),
        (3, 1, [1, 2]),
        (4, 9, [4]),
    ],
)
def test_ragged_last_batch(count: int, batch_size: int, sizes: list[int]) -> None:
    batches = shuffled_batches(count, batch_size, epoch=1, seed=0)
    assert [len(batch) for batch in batches] == sizes
    assert sorted(torch.cat(batches).tolist()) == list(range(count))


def test_other_images_are_treated_like_the_test_images(data: TaskData) -> None:
    test = small(data.test)
    other = digits.images_data(test.images.numpy(), None, data, CONFIG)
    ours, theirs = (next(iter(source.eval_batches(50)))[0] for source in (other, data.test))
    assert torch.equal(ours, theirs)


def test_no_test_images(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "packed", tmp_path / "packed")
    np.save(tmp_path / "packed" / "test.npy", np.zeros((0, 8, 8, 3), np.uint8))
    data = digits.load_data(tmp_path, CONFIG)
    assert len(data.test) == 0
    assert list(data.test.eval_batches(10)) == []


def test_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no packed images; run `resnet-tune prepare`"):
        load_packed(tmp_path)


@pytest.mark.parametrize("damage", ["json", "truncated", "key", "no_valid"])
def test_damaged_folder_is_one_clear_line(folder: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(folder / "packed", tmp_path / "packed")
    record_file, array = (tmp_path / "packed" / name for name in ("packed.json", "train_valid.npy"))
    record = json.loads(record_file.read_text())
    if damage == "json":
        record_file.write_text("{")
    if damage == "truncated":
        array.write_bytes(array.read_bytes()[:1000])
    if damage == "key":
        del record["splits"]
        record_file.write_text(json.dumps(record))
    if damage == "no_valid":
        record_file.write_text(json.dumps({**record, "splits": ["train"] * 101}))
    with pytest.raises(ValueError, match="^[^\n]*packed[^\n]*$"):
        load_packed(tmp_path)
