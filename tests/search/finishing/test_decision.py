"""Steps from the baseline to an ensemble: each judged where it was not fitted, then carried out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from search.errors import UsageError
from search.finishing.calibrate import Calibration, Floats, temper
from search.finishing.decision import decide
from search.finishing.evidence import Evidence, gather
from search.finishing.export_formats import run_torchscript
from search.finishing.predict import predictions_of_test
from search.finishing.recipe import Recipe, Wanted
from search.finishing.retrained import load_models
from search.records.search import Search, load
from search.review.figures.ladder import ladder
from search.study.loading import load_study
from tests.commands import resnet_tune
from trainables.loop import predict

pytestmark = pytest.mark.slow
STUDY = load_study("digits")
ENSEMBLE = Wanted(ensemble=6)


@pytest.fixture(scope="module")
def found(confirmed_digits: Path) -> Search:
    return load(confirmed_digits)


@pytest.fixture(scope="module")
def evidence(found: Search) -> Evidence:
    gathered = gather(found, STUDY)
    assert gathered is not None
    return gathered


@pytest.fixture(scope="module")
def recipe(found: Search) -> Recipe:
    return decide(found, STUDY, ENSEMBLE)


@pytest.fixture(scope="module")
def assembled(found: Search, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the search, retrained as an ensemble by the command."""
    copy = Path(shutil.copytree(found.path, tmp_path_factory.mktemp("assembled") / "one"))
    told = resnet_tune("retrain", str(copy), "--ensemble", "6")
    (copy / "told.txt").write_text(told.err)
    return copy


def test_the_ladder_is_the_steps_with_their_gains(recipe: Recipe, evidence: Evidence) -> None:
    names = [step.name for step in recipe.ladder]
    steps = dict(zip(names, recipe.ladder, strict=True))
    assert names == [
        *("baseline", "search best", "confirmed", "averaged", "calibrated", "ensemble"),
    ]
    assert all(step.images == 1433 for step in recipe.ladder)
    own = np.concatenate([*evidence.all_scores({("t0000", 0): 1}).values()])
    assert steps["baseline"].value == pytest.approx(-own.mean())
    best = np.concatenate([*evidence.all_scores({(steps["search best"].what, 0): 1}).values()])
    gain = steps["search best"].gain
    assert gain == pytest.approx((best - own).mean())
    error = (best - own).std(ddof=1) / len(own) ** 0.5
    assert steps["search best"].standard_error == pytest.approx(error)
    for step in recipe.ladder[3:]:
        assert step.gain is not None
        assert step.standard_error is not None
        assert step.applied == (step.gain > step.standard_error)


def test_an_ensemble_of_weak_networks_helps_and_its_temperature_is_its_own(
    recipe: Recipe, evidence: Evidence
) -> None:
    picks = evidence.best_picks(recipe.looks or (), 6, evidence.numbers)
    total = sum(picks.values())
    assert len(recipe.members) > 1
    assert {(m.trial_id, m.seed): m.weight for m in recipe.members} == {
        key: count / total for key, count in picks.items()
    }
    assert recipe.calibration == evidence.calibration(picks, recipe.looks or ())


def test_what_is_judged_was_not_fitted_to(evidence: Evidence) -> None:
    """Each fold is predicted by what the two others say, and by nothing else."""
    asked: list[tuple[list[int], int]] = []

    def fit(others: Any) -> list[int]:
        return list(others)

    def judge(others: list[int]) -> Any:
        def score(fold: int) -> np.ndarray:
            asked.append((others, fold))
            return np.zeros(1)

        return score

    evidence.held_out(fit, judge)
    assert asked == [([1, 2], 0), ([0, 2], 1), ([0, 1], 2)]


def test_what_hurts_is_left_out_and_told(found: Search, evidence: Evidence) -> None:
    """An ensemble of one pick is the best configuration alone: it gains nothing over itself."""
    alone = decide(found, STUDY, Wanted(ensemble=1))
    assert len(alone.members) == 1
    step = alone.ladder[-1]
    assert (step.name, step.applied) == ("ensemble", False)
    assert "not applied: it does not help by more than its standard error" in str(step)


def test_the_notes_own_way_stays(found: Search) -> None:
    plain = decide(found, STUDY, Wanted(calibrate=False, tta="none"))
    assert plain.ladder == ()
    assert plain.looks == ()
    assert plain.calibration == Calibration(1.0, False, reason="not wanted")
    assert [(m.seed, m.weight) for m in plain.members] == [(0, 1.0)]


def test_looks_that_are_asked_for_are_taken_and_measured(found: Search) -> None:
    asked = decide(found, STUDY, Wanted(tta="2"))
    assert asked.looks == ("up", "down")
    assert asked.ladder[3].name == "averaged"
    assert asked.ladder[3].applied
    with pytest.raises(UsageError, match="--tta 9: there are 4 other looks .up, down, left, right"):
        decide(found, STUDY, Wanted(tta="9"))
    with pytest.raises(UsageError, match="--tta twice: use auto, none, mirror, or a number"):
        Wanted(tta="twice")
    with pytest.raises(UsageError, match="use one"):
        Wanted(seeds=2, ensemble=2)


def test_seeds_that_were_not_confirmed_are_averaged_without_a_temperature(found: Search) -> None:
    several = decide(found, STUDY, Wanted(seeds=3, tta="none"))
    assert [(m.seed, m.weight) for m in several.members] == [(s, 1 / 3) for s in range(3)]
    assert "not measured: `resnet-tune confirm --seeds 3` does" in str(several.ladder[-1])
    assert several.calibration.reason == "what is averaged has no predictions out of fold"


def test_the_retrained_ensemble_predicts_the_weighted_mean(assembled: Path, found: Search) -> None:
    root = Path(found.info.data.root)
    models = load_models(assembled, STUDY, root)
    metadata = json.loads((assembled / "retrain" / "metadata.json").read_text())
    assert len(models) == len(metadata["members"]) > 1
    assert sum(m["weight"] for m in metadata["members"]) == pytest.approx(1)
    looks = tuple(metadata["looks"])
    wanted = sum(
        each.weight
        * predict(each.state.model, each.data.test, each.config, looks).numpy().astype(float)
        for each in models
    )
    mean: Floats = np.asarray(wanted)
    tempered = temper(mean, metadata["calibration"]["temperature"])
    predictions = predictions_of_test(assembled, STUDY, root)
    np.testing.assert_allclose(predictions.probabilities, tempered, rtol=1e-9)
    metrics = pd.read_csv(assembled / "retrain" / "metrics.csv")
    assert metrics["member"].value_counts().to_dict() == dict.fromkeys(range(len(models)), 2)
    submitted = pd.read_csv(assembled / "submission.csv", dtype=str)
    assert dict(submitted.values.tolist()) == dict(
        zip(predictions.ids, predictions.labels, strict=True)
    )


def test_retraining_again_gives_the_same_submission(
    assembled: Path, found: Search, tmp_path: Path
) -> None:
    """Bit for bit, from nothing but the search's folder and the prepared data."""
    copy = Path(shutil.copytree(found.path, tmp_path / "again"))
    resnet_tune("retrain", str(copy), "--ensemble", "6")
    assert (copy / "submission.csv").read_bytes() == (assembled / "submission.csv").read_bytes()
    root = Path(found.info.data.root)
    once, again = (predictions_of_test(path, STUDY, root) for path in (assembled, copy))
    assert (once.probabilities == again.probabilities).all()


def test_the_command_tells_the_ladder_and_the_report_shows_it(assembled: Path) -> None:
    told = (assembled / "told.txt").read_text()
    metadata = json.loads((assembled / "retrain" / "metadata.json").read_text())
    assert "ladder by valid_loss on 1,433 images out of fold, each step judged on folds" in told
    for step in metadata["ladder"]:
        without = "" if step["without"] is None else f" ({step['without']:.4f} without)"
        assert f"  {step['name']} {step['value']:.4f}{without}: " in told
    plot = ladder(metadata["ladder"], "valid_loss")
    assert plot is not None
    assert list(plot.figure.data[0].y) == [step["name"] for step in metadata["ladder"]]
    resnet_tune("report", str(assembled))
    page = (assembled / "report.html").read_text()
    assert "From the baseline to the submission" in page
    assert "<dt>members</dt>" in page


def test_other_images_and_an_export_are_predicted_by_all_members(
    assembled: Path, found: Search, tmp_path: Path
) -> None:
    root = Path(found.info.data.root)
    wanted = predictions_of_test(assembled, STUDY, root)
    images, out = root / "test" / "unknown", tmp_path / "out.csv"
    resnet_tune("predict", str(assembled), "--images", str(images), "--out", str(out))
    table = pd.read_csv(out, dtype=str)
    assert dict(table.values.tolist()) == dict(zip(wanted.ids, wanted.labels, strict=True))
    resnet_tune("export", str(assembled), "--format", "torchscript", "--out", str(tmp_path))
    card = json.loads((tmp_path / "model.pt.json").read_text())
    models = load_models(assembled, STUDY, root)
    batch = next(iter(models[0].data.test.eval_batches(50)))[0]
    exported = run_torchscript(torch.nn.Identity(), batch, tmp_path / "model.pt").softmax(1)
    together = sum(each.weight * each.state.model.eval()(batch).softmax(1) for each in models)
    assert isinstance(together, torch.Tensor)
    assert (exported - together).abs().max() < 1e-5
    assert (
        card["averaged_over"]
        == json.loads((assembled / "retrain" / "metadata.json").read_text())["looks"]
    )


def test_the_class_is_the_same_at_every_temperature(assembled: Path, found: Search) -> None:
    root = Path(found.info.data.root)
    plain = predictions_of_test(assembled, STUDY, root)
    for temperature in (0.3, 3.0):
        changed = temper(plain.probabilities, temperature)
        assert (changed.argmax(1) == plain.probabilities.argmax(1)).all()


def test_mistakes_are_one_line(retrained_digits: Path) -> None:
    told = resnet_tune("retrain", str(retrained_digits), "--ensemble", "3", code=2).err
    assert "--ensemble 3: nothing was predicted out of fold to select by; run `resnet-tune" in told
    told = resnet_tune("retrain", str(retrained_digits), "--tta", "often", code=2).err
    assert "--tta often: use auto, none, mirror, or a number of looks" in told
