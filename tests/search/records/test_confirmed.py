"""The choice among configurations that were run again, against answers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from search import load
from search.records.best import choose_best
from search.records.confirmed import Confirmed, confirm
from search.records.ledger import TrialRecord
from search.records.outcomes import Outcomes
from search.records.runs import Plan, Runs, runs_of
from tests.ledgers import make_search

PLAN = Plan(("t0002", "t0001", "t0000"), folds=2, seeds=1)


def runs(
    losses: Mapping[str, Sequence[Sequence[float]]],
    plan: Plan = PLAN,
    parameters: Mapping[str, int] | None = None,
    known: bool = True,
) -> Runs:
    """Each configuration's runs by the losses of their images; each run's value is their mean."""
    records: dict[str, TrialRecord] = {}
    outcomes: dict[str, Outcomes] = {}
    for trial_id, folds in losses.items():
        for run, images in zip(plan.runs, folds, strict=False):
            name = f"t{len(records):04d}"
            history = {1: {"valid_loss": sum(images) / len(images)}}
            facts = {"num_parameters": (parameters or {}).get(trial_id, 10)}
            records[name] = TrialRecord(
                name, {}, plan.name(trial_id, run), "completed", history=history, facts=facts
            )
            right = tuple(int(loss < 1) for loss in images)
            outcomes[name] = Outcomes(name, 1, tuple(images), right)
    return runs_of(plan, "valid_loss", "min", records, outcomes if known else {})


def search(values: Mapping[str, float]) -> dict[str, TrialRecord]:
    return {
        name: TrialRecord(name, {"lr": 0.1}, status="completed", history={1: {"valid_loss": value}})
        for name, value in values.items()
    }


SEARCH = search({"t0000": 0.9, "t0001": 0.5, "t0002": 0.4})


def confirmed(found: Runs, **settings: Any) -> Confirmed:
    result = confirm(found, SEARCH, **settings)
    assert result is not None
    return result


def test_means_errors_and_optimism_by_hand() -> None:
    """t0001: folds .5 and .7, mean .6. Images .4 .6 .6 .8: squares .08; sqrt(.08 / 3 / 4) = .0816;
    of the folds sqrt(.02 / 1 / 2) = .1, the larger. Behind t0001 is t0000 by 1 in each image."""
    found = confirmed(
        runs(
            {
                "t0002": [[0.9, 0.3], [0.9, 1.5]],
                "t0001": [[0.4, 0.6], [0.6, 0.8]],
                "t0000": [[1.4, 1.6], [1.6, 1.8]],
            }
        )
    )
    assert [row.trial_id for row in found.rows] == ["t0001", "t0002", "t0000"]
    first, second, third = found.rows
    assert first.mean == pytest.approx(0.6)
    assert first.error == pytest.approx(0.1)
    assert first.behind is None
    assert first.optimism("min") == pytest.approx(0.1)
    assert second.optimism("min") == pytest.approx(0.5)
    assert third.behind is not None
    assert third.behind.mean == pytest.approx(1.0)
    assert third.behind.error == pytest.approx(0.0)
    assert found.chosen == "t0001"
    best = choose_best(SEARCH, "valid_loss", "min", found)
    assert best is not None
    assert best["trial_id"] == "t0001"
    assert "within one paired standard error" in best["chosen"]
    assert best["confirmed"]["configurations"][1]["optimism"] == pytest.approx(0.5)


def test_within_one_error_the_fewest_parameters_win_then_the_baseline() -> None:
    """t0002 leads t0001 by .1, -.1, .1, .1 in four images, .05 on average, with an error of .05."""
    losses = {
        "t0002": [[0.5, 0.5], [0.5, 0.5]],
        "t0001": [[0.6, 0.4], [0.6, 0.6]],
        "t0000": [[2.5, 2.5], [2.5, 2.5]],
    }
    assert confirmed(runs(losses)).chosen == "t0002"
    assert confirmed(runs(losses, parameters={"t0001": 9})).chosen == "t0001"
    assert confirmed(runs(losses, parameters={"t0000": 9})).chosen == "t0002"
    near = losses | {"t0000": losses["t0001"], "t0001": losses["t0000"]}
    assert confirmed(runs(near)).chosen == "t0000"
    further = losses | {"t0001": [[0.6, 0.45], [0.6, 0.6]]}
    assert confirmed(runs(further, parameters={"t0001": 9})).chosen == "t0002"


def test_after_a_fold_what_is_worse_beyond_doubt_is_given_up() -> None:
    """t0001 is behind by 1.0 and 1.2: 1.1 +- .1, eleven errors. The baseline is never given up."""
    losses = {
        "t0002": [[0.5, 0.5], [0.5, 0.5]],
        "t0001": [[1.5, 1.7]],
        "t0000": [[3.5, 3.5], [3.5, 3.5]],
    }
    found = runs(losses)
    assert found.dropped(0) == {}
    assert found.dropped(1) == {"t0001": 1}
    rows = {row.trial_id: row for row in confirmed(found).rows}
    assert rows["t0001"].dropped
    assert rows["t0001"].runs == 1
    assert not rows["t0000"].dropped
    doubtful = runs(losses | {"t0001": [[0.4, 1.7]]})  # .6 +- .65
    assert doubtful.dropped(1) == {}


def test_without_known_images_the_spread_of_three_runs_is_the_error() -> None:
    plan = Plan(("t0001", "t0000"), folds=1, seeds=3)
    assert plan.runs == [(0, 1), (0, 2), (0, 3)]
    assert str(plan) == "3 seeds of the prepared split"
    found = runs({"t0001": [[0.4], [0.5], [0.6]], "t0000": [[0.7]] * 3}, plan, known=False)
    assert found.mean("t0001", 3).error == pytest.approx(0.1 / math.sqrt(3))
    assert found.mean("t0001", 2).error == math.inf
    assert found.lead("t0001", "t0000", 3).mean == pytest.approx(0.2)


def test_nothing_is_chosen_until_all_runs_have_ended() -> None:
    whole = [[0.5, 0.5], [0.5, 0.5]]
    assert confirm(runs({"t0002": whole, "t0001": whole, "t0000": [[0.5, 0.5]]}), SEARCH) is None


def curve(values: Sequence[float]) -> dict[int, dict[str, float]]:
    return {epoch: {"valid_loss": value} for epoch, value in enumerate(values, start=1)}


@pytest.mark.parametrize(
    ("schedule", "curves", "epoch"),
    [
        ("constant", [[0.5, 0.3, 0.4], [0.5, 0.4, 0.3], [0.5, 0.2, 0.4]], 2),
        ("cosine", [[0.5, 0.3, 0.4], [0.5, 0.4, 0.3], [0.5, 0.2, 0.4]], 3),
        ("cosine", [[0.5, 0.3, 0.9], [0.5, 0.4, 0.9], [0.5, 0.2, 0.9]], 2),
    ],
)
def test_the_epoch_is_that_of_the_mean_curve_or_the_last_where_the_rate_ends_low(
    schedule: str, curves: list[list[float]], epoch: int
) -> None:
    """Mean curves .5 .3 .367 and .5 .3 .9: the second is .6 +- .06 better than the last."""
    plan = Plan(("t0000",), folds=3, seeds=1)
    records = {
        f"t{n:04d}": TrialRecord(
            f"t{n:04d}",
            {"schedule": schedule},
            plan.name("t0000", run),
            "completed",
            history=curve(values),
        )
        for n, (run, values) in enumerate(zip(plan.runs, curves, strict=True))
    }
    assert runs_of(plan, "valid_loss", "min", records, {}).epoch("t0000", 3) == epoch


def test_what_a_plan_runs() -> None:
    plan = Plan(("t0003",), folds=2, seeds=2)
    assert plan.runs == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert plan.name("t0003", (1, 0)) == "t0003 fold 2 of 2 seed +0"
    assert plan.config({"lr": 0.1, "seed": 7}, (1, 1)) == {
        "lr": 0.1,
        "seed": 8,
        "num_folds": 2,
        "fold": 1,
    }
    assert str(plan) == "2 folds x 2 seeds"


@pytest.mark.parametrize(
    "said",
    [
        None,
        {},
        {"trials": ["t0000"], "folds": 0, "seeds": 1},
        {"trials": ["t0000"], "folds": 10**9, "seeds": 10**9},
        {"trials": 7, "folds": 2, "seeds": 1},
    ],
)
def test_what_is_no_plan_is_told_and_the_search_opens(tmp_path: Path, said: Any) -> None:
    folder = make_search(tmp_path / "digits" / "one")
    make_search(folder / "confirm", info={"overrides": {"confirm": said}})
    found = load(folder)
    assert found.confirmed is None
    assert found.best is not None
    told = [f"{folder / 'confirm' / 'search.json'}: overrides/confirm is no plan of a confirmation"]
    assert list(found.damage) == told


def test_a_run_without_a_value_of_each_epoch_does_not_count() -> None:
    found = runs({"t0000": [[0.5, 0.5], [0.5, 0.5]]}, Plan(("t0000",), 2, 1))
    assert found.done("t0000", 2)
    records = {record.trial_id: record for record in found.records.values()}
    records["t0001"].history[3] = {"valid_loss": 0.4}
    torn = runs_of(found.plan, "valid_loss", "min", records, {})
    assert not torn.done("t0000", 2)
    assert confirm(torn, SEARCH) is None


def test_where_no_error_is_known_the_best_mean_is_chosen() -> None:
    """Two runs and no images: the baseline, far behind, has fewer parameters."""
    losses = {"t0002": [[0.5], [0.5]], "t0001": [[0.4], [0.4]], "t0000": [[0.9], [0.9]]}
    found = confirmed(runs(losses, parameters={"t0000": 1}, known=False))
    assert found.row.behind is None
    assert [math.isinf(row.behind.error) for row in found.rows if row.behind] == [True, True]
    assert found.chosen == "t0001"
