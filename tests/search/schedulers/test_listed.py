"""A list of points handed out stage by stage, without Ray."""

from __future__ import annotations

from collections.abc import Collection

from ray.tune.search import Searcher

from search.schedulers.listed import ListSearcher, Point
from tests.searching import Past

POINTS = [
    Point(f"{group}{stage}", {"lr": 0.1, "fold": stage}, group, stage)
    for stage in range(3)
    for group in "abc"
]


def listed(dropped: dict[int, set[str]] | None = None, past: Collection[Past] = ()) -> ListSearcher:
    return ListSearcher(
        POINTS,
        lambda stage: (dropped or {}).get(stage, set()),
        metric="valid_acc",
        mode="max",
        num_epochs=9,
        past=list(past),
    )


def handed(search: ListSearcher, ray_id: str) -> str:
    config = search.suggest(ray_id)
    assert isinstance(config, dict)
    return str(config["_origin"])


def finish(search: ListSearcher, ray_id: str) -> None:
    search.on_trial_complete(ray_id, {"epoch": 9, "valid_acc": 0.5})


def test_a_stage_begins_when_the_one_before_has_ended() -> None:
    search = listed()
    assert [handed(search, str(n)) for n in range(3)] == ["a0", "b0", "c0"]
    assert search.suggest("3") is None
    finish(search, "0")
    finish(search, "1")
    assert search.suggest("3") is None
    finish(search, "2")
    assert [handed(search, str(n)) for n in range(3, 6)] == ["a1", "b1", "c1"]


def test_what_is_given_up_is_not_handed_out_and_the_list_ends() -> None:
    search = listed({1: {"b"}, 2: {"b", "c"}})
    names = []
    for number in range(20):
        config = search.suggest(str(number))
        if config == Searcher.FINISHED:
            break
        assert isinstance(config, dict)
        names.append(config["_origin"])
        finish(search, str(number))
    assert names == ["a0", "b0", "c0", "a1", "c1", "a2"]


def test_a_resumed_list_goes_on_with_what_was_left() -> None:
    """t0001 was running when the driver died, the others had ended."""
    config = {"lr": 0.1, "fold": 0}
    past = [
        Past("t0000", config, {9: {"valid_acc": 0.5}}, origin="a0"),
        Past("t0001", config, {}, status="running", origin="b0", checkpoint="somewhere"),
        Past("t0002", config, {9: {"valid_acc": 0.5}}, origin="c0"),
    ]
    search = listed(past=past)
    again = search.suggest("0")
    assert isinstance(again, dict)
    assert (again["_trial_id"], again["_resume_from"]) == ("t0001", "somewhere")
    assert search.suggest("1") is None
    finish(search, "0")
    new = search.suggest("1")
    assert isinstance(new, dict)
    assert (new["_trial_id"], new["_origin"], new["fold"]) == ("t0003", "a1", 1)
