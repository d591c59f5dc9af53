"""Who is tried again, when, and when the search stops: on a clock of its own."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from search.running.retries import Retries, Trouble, cause_line
from search.running.trouble import (
    CHECKPOINT,
    NODE_LOST,
    OWN_ERROR,
    OWN_MEMORY,
    PROCESS_DIED,
    STORAGE,
)

FULL = Trouble(STORAGE, "OSError: full")
DEATH = Trouble(PROCESS_DIED, "worker: died", epoch=2, node="here")
BUG = Trouble(OWN_ERROR, "ValueError: no")


@dataclass
class Clock:
    """Seconds that pass when told to, and why the search was stopped."""

    now: float = 1000.0
    stopped: list[str] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def retries(clock: Clock, max_failures: int = 3) -> Retries:
    return Retries({}, max_failures, clock.stopped.append, lambda: False, clock)


def test_the_machines_trouble_is_tried_again_after_longer_and_longer_pauses(clock: Clock) -> None:
    judge = retries(clock)
    pauses = []
    for _ in range(3):
        verdict = judge.decide("t0001", FULL)
        assert verdict.status is None
        pauses.append(verdict.not_before - clock.now)
    assert pauses == [5, 20, 80]
    assert judge.decide("t0001", FULL).status == "lost"


def test_a_checkpoint_that_cannot_be_used_is_not_gone_on_with(clock: Clock) -> None:
    judge = retries(clock)
    torn = Trouble(CHECKPOINT, "CheckpointError: checkpoint a/state.pt cannot be used: torn")
    verdict = judge.decide("t0001", torn)
    assert (verdict.status, verdict.not_before) == (None, clock.now)
    assert judge.unusable == {"t0001"}


def test_no_retries_means_lost_at_once_and_an_error_at_its_word(clock: Clock) -> None:
    judge = retries(clock, max_failures=0)
    assert judge.decide("t0001", FULL).status == "lost"
    reused = Trouble(OWN_ERROR, "ValueError: no", reused=True)
    assert judge.decide("t0002", reused).status == "failed"


def test_an_error_of_its_own_is_not_tried_again(clock: Clock) -> None:
    assert retries(clock).decide("t0001", BUG).status == "failed"
    memory = Trouble(OWN_MEMORY, "MemoryError", reused=True)
    assert retries(clock).decide("t0001", memory).status == "failed"


def test_an_error_in_a_process_that_ran_others_is_doubted_twice(clock: Clock) -> None:
    judge = retries(clock)
    reused = Trouble(OWN_ERROR, "RuntimeError: CUDA error", reused=True)
    for _ in range(2):
        verdict = judge.decide("t0001", reused)
        assert (verdict.status, verdict.not_before) == (None, 0.0)
    assert judge.decide("t0001", reused).status == "failed"


def test_out_of_its_part_of_a_gpu_a_trial_gets_a_whole_one(clock: Clock) -> None:
    crowded = Trouble(OWN_MEMORY, "OutOfMemoryError", crowded=True)
    verdict = retries(clock, max_failures=0).decide("t0001", crowded)
    assert (verdict.status, verdict.alone) == (None, True)


def test_a_process_that_dies_alone_at_the_same_epoch_three_times_is_to_blame(clock: Clock) -> None:
    judge = retries(clock)
    for _ in range(2):
        assert judge.decide("t0001", DEATH).status is None
        clock.now += 60
    verdict = judge.decide("t0001", DEATH)
    assert verdict.status == "failed"
    assert verdict.error == "worker: died (3 times after epoch 2)"


def test_deaths_at_other_epochs_or_with_others_are_the_machines(clock: Clock) -> None:
    judge = retries(clock, max_failures=10)
    for epoch in (2, 3, 2, 4):
        assert judge.decide("t0001", Trouble(PROCESS_DIED, "died", epoch, "here")).status is None
        clock.now += 60
    for _ in range(3):
        assert judge.decide("t0002", DEATH).status is None
        assert judge.decide("t0003", DEATH).status is None
        clock.now += 60
    for _ in range(3):
        lost = Trouble(NODE_LOST, "node", 2, "here")
        assert judge.decide("t0004", lost).status is None


def test_two_that_die_together_are_tried_one_after_the_other(clock: Clock) -> None:
    judge = retries(clock)
    starts = [judge.decide(trial_id, DEATH).not_before for trial_id in ("t0001", "t0002")]
    assert starts[1] - starts[0] >= 4


def test_a_process_that_dies_before_it_begins_costs_its_trial_nothing(clock: Clock) -> None:
    judge = retries(clock, max_failures=0)
    early = Trouble(PROCESS_DIED, "worker: died", begun=False)
    for _ in range(5):
        assert judge.decide("t0001", early).status is None
        judge.went_well()  # the next trial's process is a sound one
    judge.decide("t0001", early)
    assert judge.decide("t0001", early).status == "lost"  # nothing comes up at all


def test_three_lost_in_a_row_stop_the_search_and_one_that_went_well_does_not(clock: Clock) -> None:
    judge = retries(clock, max_failures=0)
    judge.decide("t0001", FULL)
    judge.decide("t0002", FULL)
    judge.went_well()
    judge.decide("t0003", FULL)
    judge.decide("t0004", FULL)
    assert clock.stopped == []
    judge.decide("t0005", FULL)
    assert clock.stopped == ["nothing but trouble with the machine: OSError: full"]


def test_after_three_troubles_in_a_row_nothing_new_is_begun(clock: Clock) -> None:
    judge = retries(clock)
    for number in range(3):
        assert not judge.troubled()
        judge.decide(f"t{number:04d}", FULL)
    assert judge.troubled()
    judge.went_well()
    assert not judge.troubled()


def test_five_that_fail_alike_in_a_row_stop_the_search(clock: Clock) -> None:
    judge = retries(clock)
    for number in range(4):
        judge.decide(f"t{number:04d}", Trouble(OWN_ERROR, f"ValueError: tensor {number} of 9"))
    assert clock.stopped == []
    judge.decide("t0004", Trouble(OWN_ERROR, "ValueError: tensor 17 of 9"))
    assert clock.stopped == ["5 trials in a row failed alike: ValueError: tensor 17 of 9"]


def test_one_that_fails_otherwise_or_gets_on_begins_the_row_anew(clock: Clock) -> None:
    judge = retries(clock)
    for _ in range(4):
        judge.decide("t0000", BUG)
    judge.decide("t0001", Trouble(OWN_ERROR, "KeyError: other"))
    for _ in range(4):
        judge.decide("t0000", BUG)
    judge.went_well()
    judge.decide("t0000", BUG)
    assert clock.stopped == []


def test_the_line_that_says_why() -> None:
    text = "The actor died\nIt is dead because its node has died. Some common causes include: rain"
    assert cause_line(text) == "It is dead because its node has died."
    assert cause_line("") == "process died"
