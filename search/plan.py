"""What a search was asked for: the options checked, remembered, and turned into a study."""

from __future__ import annotations

import dataclasses
import math
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from search import console
from search.command_line.parameters import parameters
from search.errors import UsageError, UserError
from search.options import Request, remembered, words_of_later_sessions
from search.records.folder import SEARCH_JSON, latest_search
from search.records.manifest import Manifest, read_manifest
from search.records.search import Search
from search.records.statuses import UNFINISHED
from search.running.warm_start import warm_start
from search.samplers.make import check_sampler
from search.study.feature_choices import feature_configs
from search.study.fitting import fitted
from search.study.loading import digest, load_study, say_if_changed
from search.study.overrides import customise
from search.study.space import distribution
from search.study.study import Study
from search.text import MASK, masked
from trainables.config import TrainConfig

LENGTH_FREE = {"constant", "step"}  # schedules whose learning rate does not depend on num_epochs
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def plan(request: Request) -> tuple[Study, Path, dict[str, Any]]:
    """Check all options before anything starts: the study, its directory, what to remember."""
    study = load_study(request.task)
    study = fitted(study, request.data / study.task)
    folder = request.results / study.task
    if request.name is not None and not PLAIN_NAME.fullmatch(request.name):
        raise UsageError(f"--name {request.name!r}: use letters, digits, dot, dash and underscore")
    before: Manifest | None = None
    if request.resume:
        search_dir = (
            folder / request.name if request.name else latest_search(request.results, study.task)
        )
        if (search_dir / SEARCH_JSON).exists():
            before = read_manifest(search_dir)
            overrides = before.overrides
            told = told_before(overrides, search_dir / SEARCH_JSON)
            earlier = [beside(search_dir, path) for path in told["warm_start"] or ()]
            request = recall(request, {**told, "warm_start": tuple(earlier)})
            study = same_budget(study, before)
            say_if_changed(request.task, overrides)
    else:
        search_dir = folder / (request.name or datetime.now().strftime("%Y%m%d-%H%M%S"))
    study = customise(
        study,
        sets=request.sets,
        ranges=request.ranges,
        num_samples=request.num_samples,
        num_epochs=request.num_epochs,
        seed=request.seed,
        cpus_per_trial=request.cpus_per_trial,
        gpus_per_trial=gpus(request.gpus_per_trial),
    )
    check_sampler(study.sampler, study.space)
    check_backbones(study)
    if before is not None and before.num_epochs != study.num_epochs:
        check_other_length(study, before.num_epochs, search_dir)
    warm_start(request.warm_start, study)  # complains about a wrong one before anything starts
    kept = {name: getattr(request, name) for name in remembered()}
    warm = [str(path.resolve()) for path in request.warm_start]
    task = {"task": request.task, "task_digest": digest(request.task)}
    return study, search_dir, {**kept, **task, "warm_start": warm}


def beside(search_dir: Path, earlier: Path) -> Path:
    """An earlier search; where its folder has moved together with this one's, the one beside it."""
    moved = search_dir.parent / earlier.name
    return moved if moved.is_dir() and not earlier.is_dir() else earlier


def check_backbones(study: Study) -> list[str]:
    """A line about each network and its weights, where the task has them.

    Raises UsageError for what cannot be used.
    """
    check: Callable[[list[TrainConfig]], list[str]] | None
    check = getattr(study.trainables, "check_backbones", None)
    try:
        return check(feature_configs(study)) if check else []
    except ValueError as error:
        raise UsageError(str(error)) from None


def check_other_length(study: Study, epochs: int, search_dir: Path) -> None:
    """Raise UsageError unless trials of `epochs` epochs compare with those of the study's own.

    They do where the learning rate after an epoch is the same whatever the length: under `constant`
    and `step`, without warm-up. A trial of either length is then one that might have gone on.
    """
    values: dict[str, set[Any]] = {
        "schedule": {study.config.schedule},
        "warmup": {study.config.warmup},
    }
    for name in values.keys() & study.space.keys():
        knob = distribution(study.space, name)
        values[name] = {*getattr(knob, "choices", ())} or {"a range"}
    shaped = sorted(str(value) for value in values["schedule"] - LENGTH_FREE)
    shaped += ["warm-up"] if values["warmup"] != {0.0} else []
    if shaped:
        raise UsageError(
            f"{search_dir} has trials of {epochs} epochs, not {study.num_epochs}, and under"
            f" {', '.join(shaped)} the learning rate depends on the length: they would not compare;"
            f" resume with --num-epochs {epochs}, or search anew with --warm-start {search_dir}"
        )


def same_budget(study: Study, before: Manifest) -> Study:
    """The study with the length and the rungs of its trials, whatever the defaults are now."""
    config = dataclasses.replace(study.config, num_epochs=before.num_epochs)
    kept: dict[str, Any] = {"config": config, "grace_period": before.grace_period}
    if before.reduction_factor is not None:
        kept["reduction_factor"] = int(before.reduction_factor)
    return dataclasses.replace(study, **kept)


def told_before(overrides: dict[str, Any], path: Path) -> dict[str, Any]:
    """What search.json remembers of the options. Raises UserError where it is no such value."""
    told: dict[str, Any] = {}
    for option in parameters(Request):
        if option.name not in remembered():
            continue
        kind = tuple[option.kind, ...] if option.repeatable else option.kind  # type: ignore[name-defined]
        try:
            value = overrides.get(option.name)
            told[option.name] = None if value is None else TypeAdapter(kind).validate_python(value)
        except (ValidationError, AttributeError):
            raise UserError(f"{path}: overrides/{option.name} is no {option.flag}") from None
    return told


def recall(request: Request, overrides: dict[str, Any]) -> Request:
    """Take over what the first session was told, wherever this one says nothing else."""
    recalled: dict[str, Any] = {}
    said = {spec.partition("=")[0] for spec in [*request.sets, *request.ranges]}
    for name in remembered():
        now, then = getattr(request, name), overrides.get(name)
        if name in ("sets", "ranges"):
            kept = [spec for spec in then or () if spec.partition("=")[0] not in said]
            recalled[name] = (*kept, *now)
        else:
            recalled[name] = now if now not in (None, ()) else then if then is not None else now
    return dataclasses.replace(request, **recalled)


def gpus(text: str | float | None) -> float | None:
    """GPUs of a trial; None where the cluster decides (also for `auto`). Raises UsageError."""
    try:
        number = None if text is None or text == "auto" else float(text)
    except ValueError:
        number = -1.0
    if number is not None and not 0 <= number < math.inf:
        raise UsageError(f"--gpus-per-trial {text}: use a number such as 0.25 or 1, or auto")
    return number


@contextmanager
def resumable(request: Request, search_dir: Path) -> Iterator[None]:
    """Where a signal ends the block, the command is told that goes on with the search."""
    try:
        yield
    except KeyboardInterrupt:
        if (search_dir / SEARCH_JSON).exists():
            console.notice(f"go on with: {resume_command(request, search_dir)}")
        raise


def resume_command(request: Request, search_dir: Path) -> str:
    """The command that goes on with a search that was cut; passwords are to be put in again."""
    begin = ["resnet-tune", "search", request.task, "--name", search_dir.name, "--resume"]
    command = [*begin, *words_of_later_sessions(request)]
    shown = [masked(word) for word in command]
    advice = f" (with the password or key in place of {MASK})" if shown != command else ""
    return shlex.join(shown) + advice


def what_is_lost(request: Request, found: Search) -> str | None:
    """What a search that has ended says of trials that the machine's trouble kept from their end.

    The search itself is none the worse (exit code 0): the others are whole.
    """
    lost = [record for record in found.records.values() if record.status in UNFINISHED]
    if not lost:
        return None
    some = "1 trial stays" if len(lost) == 1 else f"{len(lost)} trials stay"
    why = next((f" ({record.error})" for record in lost if record.error), "")
    return f"{some} lost{why}; to try again: {resume_command(request, found.path)}"
