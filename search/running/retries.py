"""Which trials are tried again after an error, when, and when the whole search had better stop."""

from __future__ import annotations

import contextlib
import math
import pickle
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ray.tune.experiment import Trial

from search.records.ledger import TrialRecord
from search.running.trial_function import TrialError
from search.running.trouble import CHECKPOINT, CLUSTER, OWN_ERROR, PROCESS_DIED, Kind, kind_of
from search.schedulers.verdict import Verdict
from search.text import masked

LONGER = 4  # each further pause of a trial over the one before: 5, 20, 80 s
DEATHS = 3  # of a process at the same epoch, alone on its node, until the trial is to blame
TOGETHER = 2.0  # seconds between two deaths on a node that have one cause
TROUBLED = 3  # errors of the machine in a row after which nothing new is begun
HOPELESS = 3  # trials given up in a row after which the search stops
DOUBTS = 2  # errors in a reused process that may be another trial's doing
ALIKE = 5  # trials that fail alike in a row after which the search stops


@dataclass(frozen=True)
class Trouble:
    """What happened to a trial: after which epoch, on which node, and what it was."""

    kind: Kind
    text: str
    epoch: int = 0
    node: str = ""
    reused: bool = False
    crowded: bool = False
    begun: bool = True
    """Whether its process had begun with it, or died while it was made ready."""


@dataclass(frozen=True)
class Death:
    """A process that died."""

    trial_id: str
    epoch: int
    node: str
    time: float


class Retries:
    """Judges every error of a session; its counts begin at nothing when a search is resumed.

    `stop` is told why when nothing but the machine's trouble or the same failure is met; `over`
    tells whether the search is being stopped.
    """

    def __init__(
        self,
        records: Mapping[str, TrialRecord],
        max_failures: int,
        stop: Callable[[str], None],
        over: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.records = records
        self.max_failures = max_failures
        self.stop = stop
        self.over = over
        self.clock = clock
        self.tries: Counter[str] = Counter()
        self.doubted: Counter[str] = Counter()
        self.deaths: list[Death] = []
        self.next_start = -math.inf
        self.in_a_row = 0
        self.given_up = 0
        self.alike = 0
        self.words = ""
        self.begun: set[str] = set()
        """Ray's ids of the trials whose processes have begun with them."""
        self.verdicts: dict[str, Verdict] = {}
        self.unusable: set[str] = set()
        """Trials whose last checkpoint turned out to be damaged."""

    def judge(self, trial: Trial) -> Verdict:
        """What becomes of a Ray trial that ended with an error; asked again, the same."""
        if trial.trial_id not in self.verdicts:
            trial_id = str(trial.config["_trial_id"])
            record = self.records.get(trial_id)
            known = record.checkpoint_epoch if record else 0
            trouble = read_trouble(trial, known, begun=trial.trial_id in self.begun)
            self.verdicts[trial.trial_id] = self.decide(trial_id, trouble)
        return self.verdicts[trial.trial_id]

    def decide(self, trial_id: str, trouble: Trouble) -> Verdict:
        """The verdict on one error."""
        text = trouble.text
        if trouble.kind == CHECKPOINT:
            self.unusable.add(trial_id)
        if trouble.crowded:
            return Verdict(None, text, alone=True)
        if trouble.kind.machines:
            return self.machines(trial_id, trouble)
        if trouble.kind == OWN_ERROR and trouble.reused and self.may_be_innocent(trial_id):
            return Verdict(None, text)
        return self.failed(text)

    def failed(self, text: str) -> Verdict:
        """The trial is to blame; many alike in a row, none better, and it is not the trials."""
        words = re.sub(r"\d+", "#", text)
        self.alike = self.alike + 1 if words == self.words else 1
        self.words = words
        if self.alike >= ALIKE:
            self.stop(f"{self.alike} trials in a row failed alike: {text}")
        return Verdict("failed", text)

    def may_be_innocent(self, trial_id: str) -> bool:
        """Whether an earlier trial of the process may be to blame: twice, if there are retries."""
        self.doubted[trial_id] += 1
        return self.doubted[trial_id] <= min(DOUBTS, self.max_failures)

    def machines(self, trial_id: str, trouble: Trouble) -> Verdict:
        """The machine's trouble: again after a pause, until that has been tried often enough."""
        died = trouble.kind == PROCESS_DIED and trouble.begun
        if died and self.dies_by_itself(trial_id, trouble):
            text = f"{trouble.text} ({DEATHS} times after epoch {trouble.epoch})"
            return self.failed(text)
        self.tries[trial_id] += trouble.begun or self.in_a_row > 0
        self.in_a_row += 1
        if self.tries[trial_id] > self.max_failures:
            self.given_up += 1
            if self.given_up >= HOPELESS:
                self.stop(f"nothing but trouble with the machine: {trouble.text}")
            return Verdict("lost", trouble.text)
        tries = max(1, self.tries[trial_id])
        again = self.clock() + trouble.kind.pause * LONGER ** (tries - 1)
        if died:  # one after the other, to see which one it is
            again = self.next_start = max(again, self.next_start + 2 * TOGETHER)
        return Verdict(None, trouble.text, not_before=again)

    def dies_by_itself(self, trial_id: str, trouble: Trouble) -> bool:
        """Whether a process has died often enough at this epoch, each time alone on its node."""
        now = self.clock()
        self.deaths.append(Death(trial_id, trouble.epoch, trouble.node, now))
        here = [d for d in self.deaths if d.trial_id == trial_id and d.epoch == trouble.epoch]
        return sum(not self.others_with(death) for death in here) >= DEATHS

    def others_with(self, death: Death) -> bool:
        """Whether another trial's process died on the node at that time."""
        return any(
            other.trial_id != death.trial_id
            and other.node == death.node
            and abs(other.time - death.time) < TOGETHER
            for other in self.deaths
        )

    def went_well(self) -> None:
        """A trial got on: what others met was not everywhere."""
        self.in_a_row = self.given_up = self.alike = 0

    def troubled(self) -> bool:
        """Whether to wait for what is tried again before anything new is begun."""
        return self.in_a_row >= TROUBLED


def read_trouble(trial: Trial, epoch: int = 0, *, begun: bool = True) -> Trouble:
    """What ended a trial, from the files that Ray has just written; at `epoch` if it says none."""
    error = error_of(trial)
    last = trial.last_result or {}
    epoch, node = int(last.get("epoch", epoch)), str(last.get("node_ip", ""))
    if isinstance(error, TrialError):
        return Trouble(error.kind, error.text, epoch, node, error.reused, error.crowded)
    kind = kind_of(error)  # a trial's own errors come as TrialError: this one is not its fault
    kind = kind if kind.machines else CLUSTER
    return Trouble(kind, "worker: " + cause_line(str(error)), epoch, node, begun=begun)


def error_of(trial: Trial) -> BaseException:
    """The exception, as Ray pickled it or, where it did not, made of Ray's text."""
    with contextlib.suppress(OSError, TypeError, ValueError, ImportError, AttributeError, EOFError):
        error = pickle.loads(Path(trial.pickled_error_file).read_bytes())
        cause = getattr(error, "cause", error)
        if isinstance(cause, BaseException):
            return cause
    try:
        text = Path(trial.error_file).read_text(encoding="utf-8").rpartition("Failure # ")[2]
    except (OSError, TypeError):
        text = ""
    return WorkerError(text.partition("\n")[2])


class WorkerError(Exception):
    """What ended a worker, known by its text alone."""

    __module__ = "ray"  # so that it is judged as what Ray says of a process


def cause_line(text: str) -> str:
    """The line that says why, else the first."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    cause = next((line for line in lines if " because " in line), "")
    line = cause or "".join(lines[:1]) or "process died"
    return masked(line.partition(" Some common causes")[0])[:500]
