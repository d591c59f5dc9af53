"""What a search was asked for, remembered, and said again at its end."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from search import load
from search.errors import UsageError
from search.options import Request
from search.plan import plan, what_is_lost
from tests.ledgers import make_search


def test_an_earlier_search_that_moved_along_is_found_beside_the_later_one(tmp_path: Path) -> None:
    old = tmp_path / "old" / "digits"
    make_search(old / "earlier")
    make_search(old / "later", info={"overrides": {"warm_start": [str(old / "earlier")]}})
    request = Request(task="digits", results=tmp_path / "old", name="later", resume=True)
    assert plan(request)[2]["warm_start"] == [str(old / "earlier")]
    (tmp_path / "old").rename(tmp_path / "new")
    moved = Request(task="digits", results=tmp_path / "new", name="later", resume=True)
    assert plan(moved)[2]["warm_start"] == [str(tmp_path / "new" / "digits" / "earlier")]
    (tmp_path / "new" / "digits" / "earlier").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=f"no search in {re.escape(str(old / 'earlier'))}"):
        plan(moved)


@pytest.mark.parametrize("spec", ["s3://me:geheim@bucket/w.pth", "https://host/w.pth?token=geheim"])
def test_a_password_in_a_knob_is_refused_before_it_is_written(tmp_path: Path, spec: str) -> None:
    request = Request(task="dog_breed", results=tmp_path, sets=(f"weights={spec}",))
    with pytest.raises(UsageError, match=r"--set weights=.*\*\*\*.* holds a password") as refused:
        plan(request)
    assert "geheim" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_trials_that_stay_lost_are_told_and_how_to_try_them_again(tmp_path: Path) -> None:
    request = Request(task="digits")
    some = load(make_search(tmp_path / "some", chances=(0.5, 0.3, 0, 0, 0.2)))
    assert (some.trials["status"] == "lost").sum() == 12
    assert what_is_lost(request, some) == (
        "12 trials stay lost; to try again: resnet-tune search digits --name some --resume"
    )
    none = load(make_search(tmp_path / "none", chances=(1, 0, 0, 0, 0)))
    assert what_is_lost(request, none) is None


@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        ((), "cosine, one_cycle the learning rate depends on the length"),
        (("schedule=cosine",), "under cosine the learning rate"),
        (("schedule=constant", "warmup=0.1"), "under warm-up the learning rate"),
        (("schedule=constant",), ""),
        (("schedule=step",), ""),
    ],
)
def test_a_search_goes_on_with_longer_trials_only_where_these_compare(
    tmp_path: Path, sets: tuple[str, ...], reason: str
) -> None:
    make_search(tmp_path / "digits" / "one", epochs=9)
    request = Request(task="digits", results=tmp_path, name="one", resume=True, sets=sets)
    assert plan(request)[0].num_epochs == 9, "those of its trials, not the task's"
    longer = dataclasses.replace(request, num_epochs=27)
    if not reason:
        assert plan(longer)[0].num_epochs == 27
        return
    with pytest.raises(UsageError, match=reason) as refused:
        plan(longer)
    assert "has trials of 9 epochs, not 27" in str(refused.value)
    assert "resume with --num-epochs 9" in str(refused.value)
