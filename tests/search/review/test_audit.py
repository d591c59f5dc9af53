"""What is said of early stopping, by hand-worked ledgers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from search.records.ledger import TrialRecord
from search.records.manifest import Manifest
from search.records.search import Search
from search.review.audit import Audit, audit, audited

INFO = {
    "task": "digits",
    "space": {},
    "baseline": {},
    "metric": "valid_acc",
    "mode": "max",
    "scheduler": "promoting",
    "num_epochs": 3,
    "grace_period": 1,
    "reduction_factor": 2,
}


def record(number: int, first: float, last: float | None, drawn: bool = False) -> TrialRecord:
    """A trial with a look after epoch 1 and, if it went on, one after epoch 3."""
    looks = {1: first} if last is None else {1: first, 3: last}
    history = {
        epoch: {"valid_acc": value, "valid_loss": 1 - value} for epoch, value in looks.items()
    }
    status = "stopped" if last is None else "completed"
    name = f"t{number:04d}"
    return TrialRecord(name, {}, status=status, history=history, audited=drawn)  # type: ignore[arg-type]


def search_of(*records: TrialRecord, **info: object) -> Search:
    found = {record.trial_id: record for record in records}
    manifest = Manifest.model_validate({**INFO, **info})
    return Search(Path("results/task/name"), manifest, found, running=False)


FOUR = [(0.1, 0.5), (0.2, 0.9), (0.3, 0.6), (0.4, 0.7)]


def test_correlation_with_its_error_and_the_cost() -> None:
    drawn = [record(n, first, last, drawn=True) for n, (first, last) in enumerate(FOUR)]
    others = [record(4, 0.5, 0.8), record(5, 0.05, None), record(6, 0.06, None)]
    found = audit(search_of(*drawn, *others))
    assert found is not None
    # Ranks at the end 1 4 2 3: rho = 1 - 6 * (0 + 4 + 1 + 1) / (4 * 15) = 0.4. Of seven looks the
    # best three go on, .5 .4 .3; of those stopped the best ends at .9, of all others at .8.
    assert (found.trials, found.epoch) == (4, 1)
    assert found.correlation == pytest.approx(0.4)
    assert found.error == pytest.approx(math.sqrt((1 - 0.16) / 2))
    assert found.cost == pytest.approx(0.1)
    assert audited(search_of(*drawn, *others)) == [
        "early stopping, by 4 audited trials: at epoch 1 rank correlation 0.40 +- 0.65 with the"
        " end; to stop them there would have cost 0.1000 valid_acc"
    ]


def test_nothing_lost_where_a_kept_trial_is_best() -> None:
    drawn = [record(n, first, last, drawn=True) for n, (first, last) in enumerate(FOUR)]
    (line,) = audited(search_of(*drawn, record(4, 0.5, 0.95)))
    assert line.endswith("to stop them there would have cost nothing")


def test_a_loss_is_lower_the_better() -> None:
    drawn = [record(n, first, last, drawn=True) for n, (first, last) in enumerate(FOUR)]
    found = audit(search_of(*drawn, metric="valid_loss", mode="min"))
    assert found is not None
    assert found.correlation == pytest.approx(0.4)


def test_nothing_is_said_of_few_trials_or_without_rungs() -> None:
    drawn = [record(n, first, last, drawn=True) for n, (first, last) in enumerate(FOUR)]
    assert audited(search_of(*drawn[:3], record(3, 0.4, 0.7))) == []
    assert audited(search_of(*drawn, scheduler="none")) == []
    assert audited(search_of()) == []


def test_looks_that_are_all_alike_have_no_correlation() -> None:
    drawn = [record(n, 0.1, last, drawn=True) for n, (_, last) in enumerate(FOUR)]
    found = audit(search_of(*drawn))
    assert isinstance(found, Audit)
    assert math.isnan(found.correlation)
    (line,) = audited(search_of(*drawn))
    assert "at epoch 1 all alike" in line
