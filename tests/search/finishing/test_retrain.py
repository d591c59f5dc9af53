"""Retraining from a folder that was moved, and what is final checked when it is read."""

from __future__ import annotations

import dataclasses
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.digests import SUMS
from data_prep.digits import LAYOUT
from data_prep.prepare import prepare
from search import load
from search.files import read_json, write_json
from search.finishing.retrain import retrain
from search.finishing.retrained import load_retrained
from search.records.ledger import LEDGER, METRICS, Ledger
from search.records.manifest import describe_search, write_manifest
from search.review.predictions import load_verdicts
from search.study.loading import load_study
from search.study.space import describe_space
from trainables import digits
from trainables.loop import fit, predict
from trainables.reporting import STATE_FILE

STUDY = load_study("digits")
CONFIG = replace(digits.CONFIG, num_epochs=1, device="cpu", width=8)
CHECKPOINT = "ray/t0000-abc/checkpoint_000000"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data`, and a search of one trial by hand, made in one place and moved to another."""
    home = tmp_path_factory.mktemp("home")
    prepared = prepare(LAYOUT, None, home / "data")
    data = digits.load_data(home / "data", CONFIG)
    state = digits.start(CONFIG, data)
    made = home / "made" / "digits" / "one"
    (made / CHECKPOINT).mkdir(parents=True)
    study = replace(STUDY, config=CONFIG)
    space = describe_space(study.space)
    info = describe_search(
        study, prepared, made, space=space, overrides={}, command=["x"], storage=None
    )
    write_manifest(made, info.model_copy(update={"status": "finished"}))
    ledger = Ledger(made / LEDGER)
    ledger.append("start", "t0000", config=dataclasses.asdict(CONFIG), origin="baseline")
    for metrics in fit(state, data.train, data.valid, CONFIG):
        told = {key: metrics[key] for key in ("epoch", *METRICS) if key in metrics}
        ledger.append("report", "t0000", metrics=told)
    state.save(made / CHECKPOINT / STATE_FILE)
    ledger.append("checkpoint", "t0000", epoch=1, path=CHECKPOINT)
    ledger.append("end", "t0000", status="completed", error=None)
    ledger.close()
    expected = predict(state.model, data.valid, CONFIG).numpy()
    np.save(home / "expected.npy", expected)
    moved = home / "results" / "digits" / "another name"
    moved.parent.mkdir(parents=True)
    made.rename(moved)
    retrain(load(moved), study, home / "data")
    return home


@pytest.fixture
def search_dir(home: Path, tmp_path: Path) -> Path:
    """A copy of the moved and retrained search, to be damaged."""
    return Path(shutil.copytree(home / "results" / "digits" / "another name", tmp_path / "a" / "b"))


def test_a_moved_search_retrains_and_finds_its_checkpoint(home: Path, search_dir: Path) -> None:
    verdicts = load_verdicts(load(search_dir))
    assert verdicts is not None
    np.testing.assert_allclose(verdicts.probabilities, np.load(home / "expected.npy"), rtol=1e-6)
    state, config, _ = load_retrained(search_dir, STUDY, home / "data")
    assert config == CONFIG
    assert state.model is not None
    assert load(search_dir).info.data.test == len(
        list((home / "data" / "test" / "unknown").iterdir())
    )


def flip(path: Path, at: int = -1) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_changed_bit_is_told(home: Path, search_dir: Path, name: str) -> None:
    flip(search_dir / "retrain" / name, -2)
    with pytest.raises(ValueError, match=rf"^[^\n]*{name} is not as it was written[^\n]*$"):
        load_retrained(search_dir, STUDY, home / "data")


def test_a_changed_bit_of_the_predictions_is_told(search_dir: Path) -> None:
    flip(search_dir / "retrain" / "valid_predictions.npz", 200)
    with pytest.raises(ValueError, match=r"^[^\n]*valid_predictions.npz is not as it was[^\n]*$"):
        load_verdicts(load(search_dir))


def test_a_score_may_be_added_and_a_folder_of_the_version_before_is_read(
    home: Path, search_dir: Path
) -> None:
    metadata = read_json(search_dir / "retrain" / "metadata.json")
    write_json(search_dir / "retrain" / "metadata.json", {**metadata, "score": "x"})
    load_retrained(search_dir, STUDY, home / "data")
    (search_dir / "retrain" / SUMS).unlink()
    load_retrained(search_dir, STUDY, home / "data")


def test_a_kill_while_the_folders_change_places_costs_no_model(
    home: Path, search_dir: Path
) -> None:
    (search_dir / "retrain").rename(search_dir / ".retrain.old")
    shutil.copytree(search_dir / ".retrain.old", search_dir / ".retrain.partial")
    (search_dir / ".retrain.partial" / "model.safetensors").unlink()
    load_retrained(search_dir, STUDY, home / "data")
    assert not (search_dir / ".retrain.old").exists()
    retrain(load(search_dir), replace(STUDY, config=CONFIG), home / "data")
    left = {name for name in os.listdir(search_dir) if name.startswith(".retrain")}
    assert left <= {".retrain.lock"}


def test_a_retraining_that_fails_leaves_the_model_before(home: Path, search_dir: Path) -> None:
    before = (search_dir / "retrain" / "model.safetensors").read_bytes()
    with pytest.raises(RuntimeError, match="no room"):
        retrain(load(search_dir), replace(STUDY, config=CONFIG), home / "data", track=broken)
    assert (search_dir / "retrain" / "model.safetensors").read_bytes() == before


def broken(items: object, total: int, description: str) -> list[object]:
    """A track that ends everything."""
    raise RuntimeError("no room")


def test_a_checkpoint_that_would_run_code_runs_none_and_costs_no_model(
    home: Path, search_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = search_dir / "marker"
    torch.save(Evil(marker), search_dir / CHECKPOINT / STATE_FILE)
    retrain(load(search_dir), replace(STUDY, config=CONFIG), home / "data")
    assert not marker.exists()
    assert load_verdicts(load(search_dir)) is None
    assert "no predictions of valid for the report: checkpoint" in capsys.readouterr().err
    load_retrained(search_dir, STUDY, home / "data")


class Evil:
    """Makes a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.marker), "w")
