"""Searches on a frozen backbone: features first, trials as soon as they can, nothing twice."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import Timeout
from PIL import Image

from search import load
from search.records.ledger import read_events
from search.running.feature_costs import forecast_features
from search.running.feature_workers import FeatureWorker, worker_options
from search.study.feature_choices import feature_configs
from search.study.loading import load_study
from search.study.overrides import customise
from tests.commands import RAY_WARNS, resnet_tune
from tests.dog_features import made_up_dogs, random_weights, small_config
from tests.tiny_networks import EFFICIENTNET, RESNET, tiny_weights
from trainables.features.work import feature_work

pytestmark = RAY_WARNS
BREEDS, EACH, TEST = ("beagle", "boxer", "pug"), 8, 4


def dogs_download(folder: Path) -> Path:
    """Made-up images in the layout of Kaggle's dogs."""
    random = np.random.default_rng(0)
    rows = [(f"{breed}{n}", breed) for breed in BREEDS for n in range(EACH)]
    names = [f"train/{row_id}" for row_id, _ in rows] + [f"test/t{n}" for n in range(TEST)]
    for name in names:
        path = folder / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        coarse.resize((90, 70)).save(path)
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "breed"), *rows])
    with (folder / "sample_submission.csv").open("w", newline="") as file:
        sample = [(f"t{n}", *[1 / 3] * 3) for n in range(TEST)]
        csv.writer(file).writerows([("id", *BREEDS), *sample])
    return folder


def command(folder: Path, stage: str, name: str, *options: str) -> list[str]:
    """What `resnet-tune` is told to run or search dog_breed."""
    folders = ["--data", str(folder / "data"), "--results", str(folder / "results")]
    words = [stage, "dog_breed", *folders, "--name", name, "--no-confirm"]
    if stage == "run":
        words += ["--source", str(folder / "download")]
    return [*words, *options]


def small(weights: Path) -> list[str]:
    """Two trials of two epochs on 32 x 32 pixels."""
    sets = ["backbone=mobilenet_v2", f"weights={weights}", "image_size=32", "scheduler=none"]
    return ["--num-samples", "2", "--num-epochs", "2", *(w for s in sets for w in ("--set", s))]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with data and results of a whole run, and what the run told."""
    folder = tmp_path_factory.mktemp("dogs")
    dogs_download(folder / "download")
    weights = random_weights(folder / "mobilenet.pt")
    return folder, resnet_tune(*command(folder, "run", "one", *small(weights))).err


def files(folder: Path) -> dict[str, int]:
    """Feature files and when they were written."""
    found = (folder / "data" / "dog_breed" / "features").rglob("*.npy")
    return {str(path): path.stat().st_mtime_ns for path in found}


def test_a_run_says_what_it_computes_and_keeps_it(finished: tuple[Path, str]) -> None:
    folder, told = finished
    assert "features: 24 images x 2 views and 2 evaluation files = 76 images" in told
    assert len(files(folder)) == 4 + 1  # and the mirrored images, which prediction is tried on
    search = load(folder / "results" / "dog_breed" / "one")
    assert {record.status for record in search.records.values()} == {"completed"}
    assert {record.facts["path"] for record in search.records.values()} == {"features"}
    precisions = {record.config["precision"] for record in search.records.values()}
    assert precisions <= {"float32", "bfloat16", "float16"}
    submission = pd.read_csv(search.path / "submission.csv")
    assert submission.columns.tolist() == ["id", *BREEDS]
    assert submission[list(BREEDS)].sum(axis=1).tolist() == pytest.approx([1] * TEST)


def test_a_second_search_computes_nothing_and_starts_at_once(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    before = files(folder)
    options = [*small(folder / "mobilenet.pt"), "--no-trial-batch"]
    again = resnet_tune(*command(folder, "search", "two", *options))
    assert "features:" not in again.err
    assert files(folder) == before
    events = list(read_events(folder / "results" / "dog_breed" / "two" / "ledger.jsonl"))
    times = {
        kind: [e["time"] for e in events if e["event"] == kind] for kind in ("session", "start")
    }
    # Some five seconds, which are those of the first worker; more on a machine with other work.
    assert times["start"][0] - times["session"][0] < 60


def test_predicting_later_needs_neither_weights_nor_store(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    search_dir = folder / "results" / "dog_breed" / "one"
    wanted = pd.read_csv(search_dir / "submission.csv").set_index("id")
    weights, store = folder / "mobilenet.pt", folder / "data" / "dog_breed" / "features"
    weights.rename(folder / "away.pt")
    store.rename(folder / "away")
    try:
        out = folder / "again.csv"
        words = ["predict", str(search_dir), "--out", str(out)]
        resnet_tune(*words)
        found = pd.read_csv(out).set_index("id")
        np.testing.assert_allclose(found, wanted, atol=1e-4)
        images = folder / "data" / "dog_breed" / "test" / "unknown"
        resnet_tune(*words, "--images", str(images))
        by_images = pd.read_csv(out).set_index("id").loc[wanted.index]
        # From images the network is not folded, and the backbone may compute in bfloat16.
        np.testing.assert_allclose(by_images, wanted, atol=0.02)
    finally:
        (folder / "away.pt").rename(weights)


@pytest.mark.slow
def test_a_searched_backbone_from_an_empty_store_to_a_model_for_others(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    (tmp_path / "download").symlink_to(finished[0] / "download")
    joined = f"{RESNET}+{EFFICIENTNET}"
    sets = [f"weights={tiny_weights(tmp_path)}", "image_size=48", "scheduler=none", "hidden=0"]
    words = ["--num-samples", "4", "--num-epochs", "2", *(w for s in sets for w in ("--set", s))]
    words += ["--range", f"backbone={RESNET},{EFFICIENTNET},{joined}"]
    told = resnet_tune(*command(tmp_path, "run", "one", *words)).err
    for name in (RESNET, EFFICIENTNET):
        assert f"backbone {name}: weights test_" in told
        assert f"24 images x 2 views and 2 evaluation files = 76 images through {name} " in told
    assert "features: in all about" in told
    before = files(tmp_path)
    assert len(before) == 2 * 5  # views, crops of both sets, and mirrored for the confirmation
    search = load(tmp_path / "results" / "dog_breed" / "one")
    records = list(search.records.values())
    assert {record.status for record in records} == {"completed"}
    assert records[0].config["backbone"] == RESNET
    assert all(r.facts["weights"].startswith(r.config["backbone"][:9]) for r in records)
    assert len({record.config["backbone"] for record in records}) > 1
    again = resnet_tune(*command(tmp_path, "search", "two", *words))
    assert "images through" not in again.err
    assert files(tmp_path) == before
    chosen = next(r.trial_id for r in records if r.config["backbone"] == joined)
    resnet_tune("retrain", str(search.path), "--trial", chosen)
    exported = ["export", str(search.path), "--format", "onnx"]
    assert "as the retrained model's within" in resnet_tune(*exported).out
    card = json.loads((search.path / "export" / "model.onnx.json").read_text())
    assert card["input"]["shape"] == ["N", 3 * len(card["input"].get("ways", [0])), 48, 48]
    photos = tmp_path / "data" / "dog_breed" / "test" / "unknown"
    out = ["--out", str(tmp_path / "by_images.csv")]
    wanted = pd.read_csv(search.path / "submission.csv").set_index("id")
    shutil.rmtree(tmp_path / "data" / "dog_breed" / "features")
    resnet_tune("predict", str(search.path), "--images", str(photos), *out)
    found = pd.read_csv(out[1]).set_index("id").loc[wanted.index]
    np.testing.assert_allclose(found, wanted, atol=0.02)  # not folded, perhaps in bfloat16


@pytest.mark.slow
def test_stages_are_unfrozen_from_an_empty_store_to_a_submission(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    (tmp_path / "download").symlink_to(finished[0] / "download")
    sets = ["unfreeze=2", "head_epochs=2", "hidden=0"]
    words = [*small(finished[0] / "mobilenet.pt"), *(w for s in sets for w in ("--set", s))]
    told = resnet_tune(*command(tmp_path, "run", "one", *words)).err
    assert "of 24 images x 2 views and the central crop: kept, each is computed once" in told
    assert "= 72 images through mobilenet_v2 up to its last 2 stages (" in told
    assert len(files(tmp_path)) == 1 + 3  # the head's, and those at the cut
    search = load(tmp_path / "results" / "dog_breed" / "one")
    records = list(search.records.values())
    assert {record.status for record in records} == {"completed"}
    assert {record.facts["path"] for record in records} == {"activations"}
    assert records[0].config["backbone_lr"] == 0.1
    assert "config/backbone_lr" in pd.read_csv(search.path / "trials.csv").columns
    submission = pd.read_csv(search.path / "submission.csv")
    assert submission[list(BREEDS)].sum(axis=1).tolist() == pytest.approx([1] * TEST)


SLOW = ["--num-samples", "2", "--num-epochs", "6", "--set", "weights=random", "--no-trial-batch"]
SLOW += ["--set", "precision=float32", "--set", "image_size=320", "--set", "scheduler=none"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (signal.SIGINT, signal.SIGKILL),
        pytest.param(signal.SIGKILL, signal.SIGINT, marks=pytest.mark.soak),
    ],
)
def test_a_search_cut_twice_while_it_computes_goes_on(
    finished: tuple[Path, str], tmp_path: Path, first: signal.Signals, second: signal.Signals
) -> None:
    (tmp_path / "data").mkdir()
    source = finished[0] / "download"
    data = ["--source", str(source), "--data", str(tmp_path / "data")]
    resnet_tune("prepare", "dog_breed", *data)
    before = cut(tmp_path, first, "eval.npy", *SLOW)
    after = cut(tmp_path, second, "view_0001.npy", "--resume", "--no-trial-batch")
    assert before.items() <= after.items(), "what was there was computed again"
    resnet_tune(*command(tmp_path, "search", "cut"), "--resume", "--no-trial-batch")
    found = load(tmp_path / "results" / "dog_breed" / "cut")
    assert [record.status for record in found.records.values()] == ["completed"] * 2
    assert after.items() <= files(tmp_path).items(), "what was there was computed again"
    info = json.loads((found.path / "search.json").read_text())
    assert info["status"] == "finished"


def cut(folder: Path, number: signal.Signals, moment: str, *options: str) -> dict[str, int]:
    """Start the search, and end it once there is a file of this name; the whole files by then."""
    begun = subprocess.Popen(
        [sys.executable, "-m", "search", *command(folder, "search", "cut", *options)],
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(folder, moment)
    told = time.monotonic()
    begun.send_signal(number)
    errors = begun.communicate(timeout=120)[1]
    assert begun.returncode == (130 if number == signal.SIGINT else -9), errors
    assert time.monotonic() - told < 60, "it waited for all the features"
    whole = {path: when for path, when in files(folder).items() if ".pieces" not in path}
    assert not any(path.endswith("view_0005.npy") for path in whole)
    return whole


def wait_for(folder: Path, name: str) -> None:
    """Until there is a feature file of this name."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if any(path.endswith(name) for path in files(folder)):
            return
        time.sleep(0.01)
    raise AssertionError(f"no {name} within two minutes")


class Here:
    """In place of NodeData: a node that finds its data in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def here(self) -> str:
        """The folder."""
        return str(self.folder)


def test_a_node_with_a_disk_of_its_own_computes_its_share_and_keeps_what_it_is_sent(
    tmp_path: Path,
) -> None:
    driver = made_up_dogs(tmp_path / "driver", 12)
    shutil.copytree(driver, tmp_path / "node")
    config = small_config(random_weights(tmp_path / "mobilenet.pt"), num_epochs=2)
    work = feature_work(driver, config)
    store, part = work[1]
    wanted = store.obtain(part)
    worker = FeatureWorker(feature_work, Here(tmp_path / "node"), [config])  # type: ignore[arg-type]
    np.testing.assert_allclose(worker.features(1, range(3, 9)), wanted[3:9], rtol=0, atol=1e-5)
    there, same_part = worker.work[1]
    assert there.open(same_part) is None
    worker.keep(1, np.array(wanted))
    assert np.array_equal(np.array(there.open(same_part)), wanted)
    with pytest.raises(Timeout):  # trials of the node wait for the next view
        there.lock().acquire(timeout=0)

    sharing = FeatureWorker(feature_work, Here(driver), [config])  # type: ignore[arg-type]
    sharing.keep(1, np.array(wanted))
    store.lock().acquire(timeout=0)  # the driver's, which a node that sees its disk leaves alone


def test_what_features_will_take_is_told_before_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = {"Alive": True, "NodeID": "0" * 56, "Resources": {"CPU": 2}}
    monkeypatch.setattr("ray.nodes", lambda: [node])
    folder = made_up_dogs(tmp_path, 12)
    sets = [f"weights={random_weights(tmp_path / 'm.pt')}", "image_size=32", "num_views=1"]
    sets += ["backbone=mobilenet_v2", "precision=float32", "head_epochs=3"]
    study = customise(load_study("dog_breed"), sets=sets, ranges=["unfreeze=0,2"])
    data = Here(folder)
    told = [found.text for found in forecast_features(study, folder, data)]  # type: ignore[arg-type]
    assert "makes" in told[0]
    assert "12 images x 1 views and the central crop: kept" in told[0]
    assert (
        "12 images x 1 views and 2 evaluation files = 27 images through mobilenet_v2 (" in told[1]
    )
    assert "= 24 images through mobilenet_v2 up to its last 2 stages (" in told[2]
    for store, part in feature_work(folder, *feature_configs(study)):  # type: ignore[arg-type]
        store.obtain(part)
    told = [found.text for found in forecast_features(study, folder, data)]  # type: ignore[arg-type]
    assert len(told) == 1
    assert "is computed once" in told[0]


def test_actors_are_placed_on_each_gpu_or_else_each_node(monkeypatch: pytest.MonkeyPatch) -> None:
    def placed(*resources: dict[str, float]) -> list[tuple[str, float]]:
        nodes = [
            {"Alive": True, "NodeID": f"{number + 1:056x}", "Resources": amounts}
            for number, amounts in enumerate(resources)
        ]
        monkeypatch.setattr("ray.nodes", lambda: nodes)
        options = worker_options()
        names = {f"{number + 1:056x}": f"n{number}" for number in range(len(resources))}
        return [(names[o["scheduling_strategy"].node_id], o.get("num_gpus", 0)) for o in options]

    assert placed({"CPU": 2}) == [("n0", 0)]
    assert placed({"CPU": 2}, {"CPU": 4}, {"memory": 1}) == [("n0", 0), ("n1", 0)]
    assert placed({"CPU": 2}, {"CPU": 4, "GPU": 2}) == [("n1", 0.51), ("n1", 0.51)]
