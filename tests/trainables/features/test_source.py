"""Training on stored features equals training on images, and nothing is computed twice."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_model

from tests.dog_features import (
    REAL_WEIGHTS,
    check_equal,
    features_of,
    forbid_computing,
    from_features,
    from_images,
    made_up_dogs,
    random_weights,
    small_config,
    store_of,
)
from tests.packed_folders import write_dogs
from trainables.config import DogBreedConfig
from trainables.dog_breed import load_data, start, start_head
from trainables.features import files as feature_files
from trainables.features.source import settle_precision
from trainables.features.store import EVAL, Part
from trainables.features.work import feature_work
from trainables.large_images import load_large_images
from trainables.loop import fit, look_logits, predict


@pytest.fixture
def dogs(tmp_path: Path) -> Path:
    """Prepared images without a store."""
    return made_up_dogs(tmp_path / "dogs")


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file."""
    return random_weights(tmp_path_factory.mktemp("weights") / "mobilenet.pt")


@pytest.fixture(scope="module")
def real_dogs(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    """Prepared images of real dogs."""
    return write_dogs(tmp_path_factory.mktemp("dogs"), shared_data)


@pytest.mark.parametrize("num_views", [0, 2])
def test_real_dogs_train_the_same_with_and_without_the_store(
    real_dogs: Path, shared_data: Path, num_views: int
) -> None:
    config = small_config(shared_data / REAL_WEIGHTS, num_views=num_views, image_size=96)
    wanted = from_images(real_dogs, config)
    check_equal(from_features(real_dogs, config), wanted)
    assert len({metrics["train_loss"] for metrics in wanted}) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"num_views": 2, "num_epochs": 5, "hidden": 0},
        {"weights": "random", "seed": 7},
        {"label_smoothing": 0.1, "schedule": "one_cycle"},
    ],
    ids=["few views", "random weights", "one cycle"],
)
def test_made_up_dogs_train_the_same(
    dogs: Path, weights: Path, changes: dict[str, str | int | float]
) -> None:
    config = small_config(changes.pop("weights", weights), **changes)  # type: ignore[arg-type]
    check_equal(from_features(dogs, config), from_images(dogs, config))


def test_the_second_search_computes_nothing(
    dogs: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(weights)
    first = from_features(dogs, config)
    forbid_computing(monkeypatch)
    assert [m["valid_loss"] for m in from_features(dogs, config)] == [
        m["valid_loss"] for m in first
    ]
    other_head = dataclasses.replace(config, hidden=0, lr=0.1, batch_size=5, num_epochs=2)
    assert len(from_features(dogs, other_head)) == 2
    longer = dataclasses.replace(config, num_epochs=4)
    with pytest.raises(AssertionError, match="used again"):
        from_features(dogs, longer)


def test_bfloat16_features_are_close_to_exact_ones(real_dogs: Path, shared_data: Path) -> None:
    config = small_config(shared_data / REAL_WEIGHTS, image_size=96)
    exact = torch.from_numpy(store_of(real_dogs, config).obtain(EVAL))
    half = dataclasses.replace(config, precision="bfloat16")
    folded = torch.from_numpy(store_of(real_dogs, half).obtain(EVAL))
    # 0.995 on average with BatchNorm folded and without: bfloat16 has 8 bits of mantissa.
    assert torch.cosine_similarity(exact, folded).min() > 0.97
    assert not torch.equal(exact, folded)


def test_a_view_depends_on_seed_id_and_number_alone(dogs: Path, weights: Path) -> None:
    config = small_config(weights)
    images = load_large_images(dogs, config).train_valid
    store = store_of(dogs, config)
    part = Part("view", 1)

    def render(row: int) -> list[torch.Tensor]:
        return store.render(part, row)

    def compute(batch: int, threads: int, pieces: list[range]) -> np.ndarray:
        extractor = store.extractor()
        extractor.batch_size, extractor.num_threads = batch, threads
        return np.concatenate(list(extractor.features(store.images, render, pieces)))

    count = len(images)
    wanted = compute(16, 1, [range(count)])
    for batch, threads in ((1, 1), (3, 2), (7, 4)):
        found = compute(batch, threads, [range(0, 9), range(9, count)])
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    backwards = compute(4, 1, [range(row, row + 1) for row in reversed(range(count))])
    np.testing.assert_allclose(backwards[::-1], wanted, rtol=0, atol=1e-5)
    other = np.concatenate(
        list(
            store.extractor().features(
                store.images, lambda row: store.render(Part("view", 2), row), [range(count)]
            )
        )
    )
    assert np.abs(other - wanted).max() > 1e-3


def test_everything_that_changes_the_numbers_changes_the_key(dogs: Path, weights: Path) -> None:
    config = small_config(weights)
    view = Part("view")

    def keys(**changes: object) -> tuple[Path, Path]:
        store = store_of(dogs, dataclasses.replace(config, **changes))  # type: ignore[arg-type]
        return store.folder(view), store.folder(EVAL)

    wanted = keys()
    for both in (
        {"image_size": 65},
        {"precision": "bfloat16"},
        {"weights": "random"},
        {"backbone": "mobilenet_v3_small", "weights": "random"},
    ):
        assert not set(keys(**both)) & set(wanted), both
    assert keys(weights="random") != keys(weights="random", seed=1)
    for only_views in ({"jitter": 0.3}, {"min_area": 0.2}, {"view_seed": 1}):
        found = keys(**only_views)
        assert found[0] != wanted[0]
        assert found[1] == wanted[1]
    assert keys(seed=1, lr=0.2, hidden=0, num_views=5, num_epochs=9, batch_size=3) == wanted
    copy = weights.with_name("copy.pt")
    copy.write_bytes(weights.read_bytes())
    assert keys(weights=str(copy)) == wanted, "the same weights from another file"
    store = store_of(dogs, config)
    ids = dataclasses.replace(store, content={**store.content, "ids": "others"})
    assert ids.folder(view) != wanted[0]
    assert ids.folder(EVAL) == wanted[1]


def test_one_changed_image_is_noticed(dogs: Path, weights: Path) -> None:
    config = small_config(weights)
    before = from_features(dogs, config)
    path = dogs / "packed" / "train_valid.npy"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    pixels = np.load(path)
    pixels[:600] = 255 - pixels[:600]
    with path.open("r+b") as file:  # in place, as an unkind tool would
        np.save(file, pixels)
    os.utime(path, ns=times)
    found = from_features(dogs, config)
    check_equal(found, from_images(dogs, config))
    assert found[0]["valid_loss"] != before[0]["valid_loss"]  # it is a valid image


def test_one_changed_weight_is_noticed(dogs: Path, weights: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.pt"
    own.write_bytes(weights.read_bytes())
    config = small_config(own)
    before = from_features(dogs, config)
    tensors = torch.load(own, weights_only=True)
    tensors["features.0.0.weight"][0, 0, 0, 0] += 0.5
    torch.save(tensors, own)
    found = from_features(dogs, config)
    check_equal(found, from_images(dogs, config))
    assert found[0]["train_loss"] != before[0]["train_loss"]


@pytest.mark.parametrize("part", [Part("view", 1), EVAL])
def test_a_truncated_file_is_computed_again(dogs: Path, weights: Path, part: Part) -> None:
    config = small_config(weights)
    wanted = from_features(dogs, config)
    path = store_of(dogs, config).path(part)
    os.truncate(path, path.stat().st_size // 2)
    check_equal(from_features(dogs, config), wanted)
    assert store_of(dogs, config).open(part) is not None


def compute_all(folder: Path, config: DogBreedConfig) -> None:
    """What another process does: everything in its order, in small pieces."""
    torch.set_num_threads(1)
    feature_files.CHUNK = 4
    for store, part in feature_work(folder, config):
        store.obtain(part)


def drive(folder: Path, config: DogBreedConfig, begun: Event) -> None:
    """As a search's driver: hold the lock from the first part to the last."""
    store = store_of(folder, config)
    with store.lock():
        begun.set()
        for other, part in feature_work(folder, config):
            if other.root == store.root and other.content == store.content:
                list(store.fill(part, store.local()))


def start_computing(folder: Path, config: DogBreedConfig) -> multiprocessing.process.BaseProcess:
    """`compute_all` in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(
        target=compute_all, args=(folder, config)
    )
    process.start()
    return process


def test_after_kill_9_in_mid_computation_the_rest_is_computed(
    dogs: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(weights, image_size=128)
    monkeypatch.setattr(feature_files, "CHUNK", 4)
    process = start_computing(dogs, config)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:  # until it is in the middle of a view
        pieces = list((dogs / "features").glob("*/view_*.pieces/*.npy"))
        if len(pieces) >= 2:
            break
        time.sleep(0.002)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -9, "it had finished before it was killed"
    assert store_of(dogs, config).open(Part("view", 2)) is None
    check_equal(from_features(dogs, config), from_images(dogs, config))
    assert not list((dogs / "features").rglob("*.pieces"))


def test_two_processes_share_the_work(dogs: Path, weights: Path) -> None:
    config = small_config(weights)
    processes = [start_computing(dogs, config) for _ in range(2)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    check_equal(from_features(dogs, config), from_images(dogs, config))


def test_a_trial_waits_for_the_process_that_computes(
    dogs: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(weights)
    spawn = multiprocessing.get_context("spawn")
    begun = spawn.Event()
    process = spawn.Process(target=drive, args=(dogs, config, begun))
    process.start()
    assert begun.wait(60)
    forbid_computing(monkeypatch)
    assert len(from_features(dogs, config)) == 3
    process.join()
    assert process.exitcode == 0


def test_the_saved_model_finds_the_features_of_its_backbone(
    dogs: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.pt"
    own.write_bytes(weights.read_bytes())
    config = small_config(own)
    data = load_data(dogs, config)
    state = start(config, data)
    list(fit(state, data.train_valid, None, config))
    wanted = predict(state.model, data.test, config)
    saved = tmp_path / "model.safetensors"
    save_model(state.model, str(saved))
    own.unlink()
    config = small_config(saved)
    by_images = load_large_images(dogs, config).test
    torch.testing.assert_close(predict(state.model, by_images, config), wanted, rtol=0, atol=1e-5)
    forbid_computing(monkeypatch)
    again = predict(state.model, load_data(dogs, config).test, config)
    assert torch.equal(again, wanted)


def test_mirrored_features_are_those_of_mirror_images(dogs: Path, weights: Path) -> None:
    config = small_config(weights, flip_average=True)
    data = load_data(dogs, config)
    state = start(config, data)
    images = load_large_images(dogs, config)
    found, wanted = (predict(state.model, source, config) for source in (data.test, images.test))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    straight = dataclasses.replace(config, flip_average=False)
    assert not torch.allclose(found, predict(state.model, data.test, straight))


def test_looks_at_features_are_those_at_images(dogs: Path, weights: Path) -> None:
    """Views of unlabelled images too, of which an image's own depend on its shape alone."""
    config = small_config(weights, num_views=2)
    data, images = load_data(dogs, config), load_large_images(dogs, config)
    state = start(config, data)
    assert data.valid.looks == ("mirrored", "view_0", "view_1")
    assert images.valid.looks == ("mirrored",)
    for stored, source in ((data.valid, images.valid), (data.test, images.test)):
        for look in stored.looks:
            found, wanted = (look_logits(state.model, s, config, look) for s in (stored, source))
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_a_trial_of_the_head_resumes_from_a_whole_models_checkpoint(
    dogs: Path, weights: Path, tmp_path: Path
) -> None:
    config = small_config(weights)
    data = load_data(dogs, config)
    whole = start(config, data)
    next(fit(whole, data.train, data.valid, config))
    whole.save(tmp_path / "state.pt")
    head = start_head(config, data, features_of(data.train).width)
    head.load(tmp_path / "state.pt")
    rest = list(fit(head, data.train, data.valid, config))
    check_equal(rest, list(fit(whole, data.train, data.valid, config)))
    assert (tmp_path / "state.pt").stat().st_size < 5e6  # the head alone


def test_the_work_is_listed_in_the_order_in_which_it_is_needed(dogs: Path, weights: Path) -> None:
    work = feature_work(dogs, small_config(weights, num_epochs=4, num_views=3))
    assert [part.name for _, part in work] == [
        "eval",
        "view_0000",
        "view_0001",
        "view_0002",
        "eval",
    ]
    assert work[0][0] is work[1][0]
    assert work[0][0] is not work[-1][0]
    few = feature_work(dogs, small_config(weights, num_epochs=2, num_views=3))
    assert len(few) == 4


def test_auto_is_settled_without_a_measurement(weights: Path) -> None:
    config = small_config(weights, precision="auto", device="cpu")
    settled = settle_precision(config)
    assert settled.precision in ("float32", "bfloat16")
    assert dataclasses.replace(settled, precision="auto") == config
    assert settle_precision(small_config(weights)).precision == "float32"


def test_features_cannot_be_kept_where_nothing_can_be_written(dogs: Path, weights: Path) -> None:
    (dogs / "features").write_text("in the way")
    with pytest.raises(ValueError, match="features cannot be kept there"):
        load_data(dogs, small_config(weights))
