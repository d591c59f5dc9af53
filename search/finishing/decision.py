"""Which members, looks and temperature the final model gets: decided step by step, and told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.errors import UsageError
from search.finishing.calibrate import Calibration
from search.finishing.choice import chosen, trial_config
from search.finishing.evidence import ByFold, Evidence, Picks, gather
from search.finishing.ladder import Step, helps, step
from search.finishing.out_of_fold import Key
from search.finishing.own_model import valid_logits
from search.finishing.recipe import AUTO, MIRROR, NONE, Member, Recipe, Wanted
from search.records.best import BASELINE, choose_best
from search.records.confirmed import confirm
from search.records.search import Search
from search.study.study import Study
from trainables.data import MIRRORED

NO_PREDICTIONS = "no predictions out of fold: `resnet-tune confirm` makes them"
FEWEST = 100  # images of valid to decide by


def decide(found: Search, study: Study, wanted: Wanted, data_dir: Path | None = None) -> Recipe:
    """What to make of a search.

    `data_dir`: the prepared data, for looks that no confirmation has seen. Raises UsageError for
    what cannot be had, ValueError where a confirmation's files are damaged.
    """
    asked = wanted.calibrate or wanted.tta != NONE or wanted.ensemble
    evidence = gather(found, study) if asked and wanted.num_epochs is None else None
    decision = Decision(found, study, wanted, chosen(found, wanted.trial), evidence, data_dir)
    return decision.recipe()


class Decision:
    """The steps one after another, and what holds after them."""

    def __init__(
        self,
        found: Search,
        study: Study,
        wanted: Wanted,
        choice: Mapping[str, Any],
        evidence: Evidence | None,
        data_dir: Path | None,
    ) -> None:
        self.found, self.study, self.wanted, self.choice = found, study, wanted, choice
        self.data_dir = data_dir
        self.alone: Key = (str(choice["trial_id"]), 0)
        self.evidence = evidence if evidence is not None and evidence.has([self.alone]) else None
        self.picks: Picks = {self.alone: 1}
        self.looks: tuple[str, ...] | None = None
        self.calibration = Calibration(1.0, False, reason="not wanted")
        self.scores: ByFold = {}  # of what holds so far
        self.ladder: list[Step] = []

    def recipe(self) -> Recipe:
        """Decide all."""
        if self.evidence is not None:
            self.choose(self.evidence)
        self.average()
        self.repeat()
        self.calibrate()
        if self.wanted.ensemble:
            self.assemble()
        total = sum(self.picks.values())
        members = [self.member(key, count / total) for key, count in self.picks.items()]
        return Recipe(
            self.choice,
            tuple(members),
            self.looks,
            self.calibration,
            tuple(self.ladder),
            self.wanted.num_epochs,
        )

    def note(self, name: str, what: str, after: ByFold, before: ByFold, applied: bool) -> None:
        """A step that has been measured."""
        reason = "" if applied else "it does not help by more than its standard error"
        more = {"applied": applied, "reason": reason}
        self.ladder.append(step(name, what, after, before or None, self.found.mode, **more))
        self.scores = after if applied else self.scores

    def choose(self, evidence: Evidence) -> None:
        """From the baseline to the configuration that was chosen."""
        searched = choose_best(self.found.records, self.found.metric, self.found.mode)
        named = [("baseline", BASELINE)]
        if self.wanted.trial is not None:
            named.append(("named", self.wanted.trial))
        elif searched is not None:
            named.append(("search best", searched["trial_id"]))
        before: ByFold = {}
        for name, trial_id in named:
            if evidence.has([(trial_id, 0)]):
                scores = evidence.all_scores({(trial_id, 0): 1})
                self.note(name, trial_id, scores, before, True)
                before = scores
        if self.wanted.trial is None:
            after = evidence.held_out(self.choice_on, evidence.scores)
            self.note("confirmed", self.alone[0], after, before, True)
        self.scores = evidence.all_scores(self.picks)

    def choice_on(self, folds: Sequence[int]) -> Picks:
        """What would have been chosen by these folds alone."""
        assert self.found.runs is not None
        part = confirm(self.found.runs.on(folds), self.found.records)
        key = self.alone if part is None else (part.chosen, 0)
        known = self.evidence is not None and self.evidence.has([key])
        return {key if known else self.alone: 1}

    def average(self) -> None:
        """Over which looks at an image."""
        evidence, tta = self.evidence, self.wanted.tta
        names = () if evidence is None else evidence.looks(self.alone)
        if tta != AUTO:
            self.looks = self.asked_looks(names)
            if self.looks and evidence is not None and evidence.has([self.alone], self.looks):
                after = evidence.all_scores(self.picks, self.looks)
                self.note("averaged", told_looks(self.looks), after, self.scores, True)
            return
        if evidence is None:
            evidence = self.on_valid()
            if evidence is None:
                return
            names, self.scores = evidence.looks(self.alone), evidence.all_scores(self.picks)
        options = [names[:count] for count in range(len(names) + 1)]
        best = evidence.best_looks(self.picks, options, evidence.numbers)
        after = evidence.held_out(
            lambda others: evidence.best_looks(self.picks, options, others),
            lambda looks: evidence.scores(self.picks, looks),
        )
        applied = bool(best) and helps(after, self.scores)
        self.looks = best if applied else ()
        where = "" if evidence is self.evidence else ", judged on valid"
        if names:
            self.note("averaged", told_looks(best) + where, after, self.scores, applied)

    def on_valid(self) -> Evidence | None:
        """What the trial's own model says of `valid`, in two halves, if nothing else is known."""
        if self.data_dir is None or self.wanted.num_epochs is not None:
            return None
        fold = valid_logits(self.found, self.study, self.alone[0], self.data_dir)
        if fold is None or len(fold.labels) < FEWEST:
            return None
        halves = {half: fold.of(slice(half, None, 2)) for half in (0, 1)}
        return Evidence(self.found.metric, {self.alone: halves}, {self.alone: "valid"})

    def asked_looks(self, names: Sequence[str]) -> tuple[str, ...]:
        """What --tta says. Raises UsageError where there are no such looks."""
        tta = self.wanted.tta
        if tta == NONE:
            return ()
        if tta == MIRROR:
            return (MIRRORED,)
        if not names and self.data_dir is not None:
            config = trial_config(self.found, self.study, self.alone[0])
            data = self.study.trainables.load_data(self.data_dir, config)
            names = getattr(data.train_valid, "looks", ())
        if int(tta) > len(names):
            known = ", ".join(names) or "none"
            raise UsageError(f"--tta {tta}: there are {len(names)} other looks ({known})")
        return tuple(names[: int(tta)])

    def repeat(self) -> None:
        """Under several seeds."""
        if self.wanted.seeds == 1:
            return
        picks = {(self.alone[0], seed): 1 for seed in range(self.wanted.seeds)}
        what = f"{self.wanted.seeds} seeds"
        if self.evidence is None or not self.evidence.has(picks, self.looks or ()):
            reason = f"not measured: `resnet-tune confirm --seeds {self.wanted.seeds}` does"
            self.ladder.append(Step("seeds", what, True, reason=reason))
            self.picks = picks
            return
        after = self.evidence.all_scores(picks, self.looks or ())
        before = self.evidence.all_scores(self.picks, self.looks or ())
        applied = helps(after, before)
        self.note("seeds", what, after, before, applied)
        self.picks = picks if applied else self.picks

    def calibrate(self) -> None:
        """One temperature, after averaging."""
        reason, evidence = "", self.evidence
        if not self.wanted.calibrate:
            reason = "not wanted"
        elif self.found.metric != "valid_loss":
            reason = f"the metric is {self.found.metric}, which it cannot change"
        elif evidence is None:
            reason = NO_PREDICTIONS
        elif not evidence.has(self.picks, self.looks or ()):
            reason = "what is averaged has no predictions out of fold"
        if reason or evidence is None:
            self.calibration = Calibration(1.0, False, reason=reason)
            return
        looks = self.looks or ()
        self.calibration = evidence.calibration(self.picks, looks)
        after = evidence.held_out(
            lambda others: evidence.temperature(self.picks, looks, others),
            lambda temperature: evidence.scores(self.picks, looks, temperature),
        )
        what = f"temperature {self.calibration.temperature:.3f}"
        before = evidence.all_scores(self.picks, looks)
        self.note("calibrated", what, after, before, self.calibration.applied)

    def assemble(self) -> None:
        """An ensemble of confirmed configurations, with a temperature of its own."""
        if self.evidence is None:
            self.ladder.append(Step("ensemble", "none", False, reason=NO_PREDICTIONS))
            return
        evidence, looks, most = self.evidence, self.looks or (), self.wanted.ensemble
        tempered = self.wanted.calibrate and self.found.metric == "valid_loss"

        def fit(others: Sequence[int]) -> tuple[Picks, float]:
            picks = evidence.best_picks(looks, most, others)
            return picks, evidence.temperature(picks, looks, others) if tempered else 1.0

        after = evidence.held_out(fit, lambda fitted: evidence.scores(fitted[0], looks, fitted[1]))
        picks = evidence.best_picks(looks, most, evidence.numbers)
        applied = helps(after, self.scores) and {*picks} != {*self.picks}
        self.note("ensemble", told_picks(picks), after, self.scores, applied)
        if applied:
            self.picks = picks
            if tempered:
                self.calibration = evidence.calibration(picks, looks)

    def member(self, key: Key, weight: float) -> Member:
        """One of the picked."""
        trial_id, seed = key
        epoch = int(self.choice["epoch"])
        if trial_id != self.alone[0]:
            assert self.found.confirmed is not None
            epoch = next(r.epoch for r in self.found.confirmed.rows if r.trial_id == trial_id)
        metrics = self.found.records[trial_id].history.get(epoch, {})
        averaged = bool(metrics.get("averaged"))
        return Member(trial_id, seed, weight, self.wanted.num_epochs or epoch, averaged)


def told_looks(looks: Sequence[str]) -> str:
    """In words."""
    return ", ".join(["over the plain image", *looks])


def told_picks(picks: Picks) -> str:
    """In words."""
    named = {(trial, seed): f"{trial} seed +{seed}" if seed else trial for trial, seed in picks}
    return ", ".join(f"{count} x {named[key]}" for key, count in picks.items())
