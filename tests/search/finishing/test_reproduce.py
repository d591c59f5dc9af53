"""A trial that is run again says whether its curve came out the same, and what is not as it was."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from search.cli import guarded
from search.files import read_json, write_json
from search.finishing.reproduce import Difference, Reproduction, compare
from search.records.ledger import LEDGER, Ledger
from search.records.search import load
from tests.dog_features import from_features, made_up_dogs, random_weights, small_config
from trainables.dog_breed import load_data, start
from trainables.loop import fit


@pytest.fixture
def digits(retrained_digits: Path, tmp_path: Path) -> Path:
    """A copy of the search, whose data are where they were."""
    return Path(shutil.copytree(retrained_digits, tmp_path / "copied"))


@pytest.fixture(autouse=True)
def other_threads() -> Iterator[None]:
    """The trial had one thread, this process has two."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def reproduce(search_dir: Path) -> int:
    """The exit code for the first trial."""
    return guarded(["reproduce", str(search_dir), "--trial", "t0000"], debug=False)


def test_the_same_bit_for_bit(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce(digits) == 0
    assert capsys.readouterr().out == (
        "t0000: the same, bit for bit, in all 2 epochs;"
        " versions, device, precision and threads are as then\n"
    )


def test_another_curve_is_told_with_metric_epoch_and_what_changed(
    digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loss = load(digits).records["t0000"].history[2]["valid_loss"]
    before = load(digits).records["t0000"].history[2]
    ledger = Ledger(digits / LEDGER)
    metrics = {**before, "epoch": 2, "valid_loss": loss + 0.25}
    ledger.append("report", "t0000", metrics=metrics, facts={"threads": 1, "device": "cuda:0"})
    ledger.close()
    info = read_json(digits / "search.json")
    info["versions"]["torch"] = "2.3.4"
    write_json(digits / "search.json", info)
    assert reproduce(digits) == 1
    here = info["versions"] and torch.__version__.split("+")[0]
    assert capsys.readouterr().out == (
        "t0000: not the same in 2 epochs: valid_loss by up to 0.25 (epoch 2);"
        f" torch {here}, then 2.3.4; device cpu, then cuda:0\n"
    )


def test_a_stopped_trial_runs_the_epochs_that_it_had(
    digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (digits / LEDGER).read_text().splitlines(keepends=True)
    (digits / LEDGER).write_text("".join(lines[:3]))  # session, start, the first epoch
    assert load(digits).records["t0000"].epochs == 1
    assert reproduce(digits) == 0
    assert "the same, bit for bit, in all 1 epochs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("trial", "code", "words"),
    [
        ("t0009", 2, "--trial t0009: no such trial; see `resnet-tune trials"),
        ("t0001", 2, "--trial t0001 has no epoch to compare"),
        ("t0002", 1, "the configuration of t0002 is none of digits"),
    ],
)
def test_mistakes_are_one_line(
    digits: Path, trial: str, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger(digits / LEDGER)
    ledger.append("start", "t0001", config={}, origin="sampler")
    ledger.append("start", "t0002", config={"no_such_knob": 1}, origin="sampler")
    ledger.append("report", "t0002", metrics={"epoch": 1, "valid_acc": 0.5})
    ledger.close()
    assert guarded(["reproduce", str(digits), "--trial", trial], debug=False) == code
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_differences_are_the_largest_of_each_metric() -> None:
    recorded = {
        1: {"train_loss": 1.0, "valid_loss": 2.0, "valid_acc": 0.5, "seconds": 3.0},
        2: {"train_loss": 0.5, "valid_loss": math.nan, "valid_acc": 0.5, "seconds": 3.0},
    }
    found = {
        1: {"train_loss": 1.5, "valid_loss": 2.0, "valid_acc": 0.5, "lr": 0.1, "seconds": 9.0},
        2: {"train_loss": 0.25, "valid_loss": 1.0, "valid_acc": 0.5, "lr": 0.1, "seconds": 9.0},
    }
    assert compare(recorded, found) == (
        Difference("train_loss", 0.5, 1),
        Difference("valid_loss", math.inf, 2),
    )
    assert compare(recorded, recorded) == ()
    assert compare(recorded, {1: recorded[1]}) == (
        Difference("train_loss", math.inf, 2),
        Difference("valid_acc", math.inf, 2),
    )


def test_what_is_said_of_a_difference() -> None:
    done = Reproduction("t0003", 9, (Difference("valid_acc", 0.0123, 7),), ("threads 2, then 1",))
    assert not done.same
    assert str(done) == (
        "t0003: not the same in 9 epochs: valid_acc by up to 0.012 (epoch 7); threads 2, then 1"
    )


def test_a_head_on_features_begins_as_in_its_trial(tmp_path: Path) -> None:
    folder = made_up_dogs(tmp_path)
    config = small_config(random_weights(tmp_path / "weights.pt"))
    recorded = {int(row["epoch"]): row for row in from_features(folder, config)}
    data = load_data(folder, config)
    found = fit(start(config, data), data.train, data.valid, config)
    assert len(recorded) == 3
    assert compare(recorded, {int(row["epoch"]): row for row in found}) == ()


@pytest.mark.slow
def test_three_trials_of_a_real_search_with_two_at_a_time(
    tmp_path: Path, retrained_digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--data", str(retrained_digits.parents[2] / "data"), "--results", str(tmp_path)]
    budget = ["--num-samples", "3", "--num-epochs", "3", "--set", "grace_period=1"]
    small = ["--set", "width=8", "--name", "real", "--set", "precision=auto", "--no-confirm"]
    assert guarded(["search", "digits", *places, *budget, *small], debug=False) == 0
    search_dir = tmp_path / "digits" / "real"
    for trial in ("t0000", "t0001", "t0002"):
        code = guarded(["reproduce", str(search_dir), "--trial", trial], debug=False)
        said = capsys.readouterr().out
        assert code == 0, said
        assert f"{trial}: the same, bit for bit" in said
