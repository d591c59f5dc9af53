"""Confirmation on real Ray: a small search of digits, its best run again on folds."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_prep.prepared import load_prepared
from search import Search, load
from search.cli import guarded
from search.errors import UserError
from search.finished import confirm_after
from search.finishing.calibrate import losses
from search.finishing.confirm import forecast, plan_confirmation
from search.finishing.decision import decide
from search.finishing.out_of_fold import read_folds
from search.finishing.recipe import Wanted
from search.records.ledger import LEDGER
from search.records.outcomes import predictions_path
from search.running.options import Options
from search.study.loading import load_study
from tests.commands import RAY_WARNS, resnet_tune
from tests.finished import digits_search
from trainables.data import CENTRE

pytestmark = RAY_WARNS
BETTER = {"width": 16, "batch_size": 32}
CHANGES: list[dict[str, Any]] = [{}, BETTER, BETTER | {"seed": 1}, {"lr": 1e-5}]
OPTIONS = ("--top", "3", "--folds", "2")


@pytest.fixture(scope="module")
def above(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of four trials and its data; the last trial learns nothing."""
    above = tmp_path_factory.mktemp("above")
    digits_search(above, CHANGES)
    return above


@pytest.fixture(scope="module")
def told(above: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Search, str]:
    """The search confirmed, and what was printed."""
    search_dir = tmp_path_factory.mktemp("confirmed") / "results" / "digits" / "one"
    shutil.copytree(above / "results" / "digits" / "one", search_dir)
    printed = resnet_tune("confirm", str(search_dir), *OPTIONS)
    return load(search_dir), printed.out


@pytest.mark.slow
def test_the_best_and_the_baseline_are_run_again_and_one_is_chosen(
    told: tuple[Search, str],
) -> None:
    found, printed = told
    assert found.confirmed is not None
    rows = {row.trial_id: row for row in found.confirmed.rows}
    assert (found.confirmed.plan.folds, found.confirmed.plan.seeds) == (2, 1)
    assert set(rows) == {"t0000", "t0001", "t0002", "t0003"}
    assert rows["t0003"].dropped
    assert rows["t0003"].runs == 1
    assert found.runs is not None
    assert len(found.runs.records) == sum(row.runs for row in found.confirmed.rows)
    assert all(len(o.losses) in (716, 717) for o in found.runs.outcomes.values())
    best = json.loads((found.path / "best.json").read_text())
    assert best["trial_id"] == found.confirmed.chosen
    assert best["epoch"] == 2
    assert "of those within one paired standard error" in best["chosen"]
    assert f"chosen {best['trial_id']}: the best mean valid_acc on 2 folds" in printed
    assert "t0003 " in printed
    assert "given up after 1 runs" in printed


@pytest.mark.slow
def test_the_same_command_again_prints_the_same_without_a_run(told: tuple[Search, str]) -> None:
    found, printed = told
    before = (found.path / "confirm" / LEDGER).read_bytes()
    assert resnet_tune("confirm", str(found.path), *OPTIONS).out == printed
    assert (found.path / "confirm" / LEDGER).read_bytes() == before


@pytest.mark.slow
def test_table_report_and_retraining_follow(told: tuple[Search, str]) -> None:
    found, printed = told
    table = resnet_tune("trials", str(found.path)).out
    assert all(line.strip() in table for line in printed.splitlines())
    resnet_tune("report", str(found.path))
    page = (found.path / "report.html").read_text()
    assert "The best configurations, run again" in page
    resnet_tune("retrain", str(found.path))
    metadata = json.loads((found.path / "retrain" / "metadata.json").read_text())
    assert found.confirmed is not None
    assert metadata["trial_id"] == found.confirmed.chosen
    assert metadata["calibration"]["applied"] is False
    assert "valid_acc, which it cannot change" in metadata["calibration"]["reason"]


@pytest.mark.slow
def test_what_the_folds_predicted_is_there_to_calibrate_by(told: tuple[Search, str]) -> None:
    found, _ = told
    assert found.confirmed is not None
    assert found.runs is not None
    folds = read_folds(found, (found.confirmed.chosen, 0))
    assert sum(len(fold.labels) for fold in folds.values()) == 1433
    assert folds[0].looks == ("up", "down", "left", "right")
    kept = found.runs.outcomes[found.runs.plan.name(found.confirmed.chosen, (0, 0))].losses
    found_losses = losses(folds[0].logits[CENTRE], folds[0].labels, 1.0)
    assert found_losses.tolist() == pytest.approx(kept, abs=0.01)


@pytest.mark.slow
def test_a_choice_by_log_loss_is_calibrated_on_its_folds(told: tuple[Search, str]) -> None:
    """The same runs taken for those of a search by log loss."""
    found, _ = told
    assert found.runs is not None
    info = found.info.model_copy(update={"metric": "valid_loss", "mode": "min"})
    runs = dataclasses.replace(found.runs, metric="valid_loss", mode="min")
    by_loss = dataclasses.replace(found, info=info, runs=runs)
    assert by_loss.confirmed is not None
    trial_id = by_loss.confirmed.chosen
    study = load_study("digits")
    calibration = decide(by_loss, study, Wanted()).calibration
    assert calibration.images == 1433
    assert calibration.applied == (calibration.gain > calibration.standard_error)
    plain = Wanted(calibrate=False, tta="none")
    assert decide(by_loss, study, plain).calibration.reason == "not wanted"
    name = runs.outcomes[runs.plan.name(trial_id, (1, 0))].trial_id
    file = predictions_path(found.path / "confirm", name)
    content = file.read_bytes()
    file.write_bytes(content[:-9] + b"x" + content[-8:])
    with pytest.raises(ValueError, match=rf"{name}.npz is gone or not as it was written; add"):
        decide(by_loss, study, Wanted())
    file.write_bytes(content)


def runs_ended(ledger: Path, count: int) -> bool:
    """Whether so many runs of a confirmation have ended."""
    return ledger.exists() and ledger.read_text().count('"event": "end"') >= count


def passed(seconds: float) -> Callable[[], bool]:
    """Whether so long a time has passed since now."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def kill_when(search_dir: Path, moment: Callable[[], bool]) -> None:
    """Confirm in a process of its own, killed at a moment."""
    process = subprocess.Popen(
        [sys.executable, "-m", "search", "confirm", str(search_dir), *OPTIONS],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while not moment() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_after_kill_9_the_same_command_completes_with_the_same_result(
    above: Path, told: tuple[Search, str], tmp_path: Path
) -> None:
    search_dir = tmp_path / "results" / "digits" / "one"
    shutil.copytree(above / "results" / "digits" / "one", search_dir)
    ledger = search_dir / "confirm" / LEDGER
    kill_when(search_dir, lambda: runs_ended(ledger, 2))
    assert load(search_dir).confirmed is None
    assert "not confirmed" in resnet_tune("trials", str(search_dir)).out
    assert resnet_tune("confirm", str(search_dir), *OPTIONS).out == told[1]
    assert not list(search_dir.rglob(".*.part"))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_kill_9_at_many_moments(
    above: Path, told: tuple[Search, str], tmp_path: Path, seed: int
) -> None:
    """Killed twice, after random times, then left to end."""
    search_dir = tmp_path / "results" / "digits" / "one"
    shutil.copytree(above / "results" / "digits" / "one", search_dir)
    rng = random.Random(seed)
    for _ in range(2):
        kill_when(search_dir, passed(rng.uniform(2, 20)))
    assert resnet_tune("confirm", str(search_dir), *OPTIONS).out == told[1]


def test_what_is_planned_and_forecast(above: Path) -> None:
    found = load(above / "results" / "digits" / "one")
    plan = plan_confirmation(found, 2, 5, 1)
    assert len(plan.trials) == 3
    assert plan.trials[-1] == "t0000"
    seconds = sum(found.records[t].seconds for t in plan.trials)
    data = found.info.data
    share = (data.train + data.valid) * 0.8 / data.train
    assert forecast(found, plan) == pytest.approx(10 + seconds * 5 * share)
    by_images = plan_confirmation(found, None, 5, 1).trials
    assert "t0003" not in by_images
    with pytest.raises(UserError, match="--folds 9999: there are 1433 labelled images"):
        plan_confirmation(found, None, 9999, 1)
    found.records.clear()
    lonely = Search(found.path, found.info, {}, False)
    with pytest.raises(UserError, match="no trial but the baseline ran its full budget"):
        plan_confirmation(lonely, None, 5, 1)


def test_a_damaged_baseline_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search_dir = digits_search(tmp_path, ({}, {"lr": 0.1}))
    path = search_dir / "search.json"
    path.write_text(path.read_text().replace('"micro_batch_size":', '"mibro_batch_size":'))
    data = Path(load(search_dir).info.data.root).parent
    assert guarded(["confirm", str(search_dir), "--data", str(data)], debug=False) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "search.json is none of digits (mibro_batch_size: " in said
    assert said.endswith("; restore the file")
    assert not (search_dir / "confirm" / "search.json").exists()


def test_what_takes_long_is_offered_and_what_tells_nothing_is_not(
    above: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found, study = load(above / "results" / "digits" / "one"), load_study("digits")
    prepared = load_prepared(Path(found.info.data.root))
    monkeypatch.setattr("search.finished.SHORT", 0.0)
    assert confirm_after(found, study, prepared, None, Options()) == 0
    told = capsys.readouterr().err
    assert f"not confirmed: `resnet-tune confirm {found.path}` runs the best" in told
    assert "and the baseline again on 5 folds, about" in told
    assert confirm_after(found, study, prepared, False, Options()) == 0
    data = found.info.data.model_copy(update={"train": 30, "valid": 10})
    few = dataclasses.replace(found, info=found.info.model_copy(update={"data": data}))
    assert confirm_after(few, study, prepared, True, Options()) == 0
    assert not capsys.readouterr().err
    assert not (found.path / "confirm").exists()
