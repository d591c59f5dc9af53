"""What the command line changes in a study: `--set`, `--range` and the budget."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence, Set
from typing import Any, Literal

from optuna.distributions import BaseDistribution, CategoricalDistribution
from pydantic import TypeAdapter, ValidationError

from search.errors import UsageError as UsageError
from search.study.choices import Scheduler, one_of
from search.study.ranges import parse_range
from search.study.space import Entry, When, distribution, without
from search.study.study import SamplerName, Study
from search.text import masked
from trainables.config import parse_setting

SETTINGS: dict[str, Any] = {
    "metric": Literal["valid_acc", "valid_loss"],
    "sampler": SamplerName,
    "scheduler": Scheduler,
    "grace_period": int,
    "reduction_factor": int,
    "finish_presets": bool,
    "audit_share": float,
}


def customise(
    study: Study,
    *,
    sets: Sequence[str] = (),
    ranges: Sequence[str] = (),
    num_samples: int | None = None,
    num_epochs: int | None = None,
    seed: int | None = None,
    cpus_per_trial: float | None = None,
    gpus_per_trial: float | None = None,
) -> Study:
    """The study with the user's `--set`, `--range` and budget in place of its own.

    Raises UsageError for a knob that does not exist, a value of the wrong type or range, and a
    password: what trials are given is written into the ledger, tables and checkpoints.
    """
    for option, specs in (("--set", sets), ("--range", ranges)):
        for spec in specs:
            if masked(spec) != spec:
                raise UsageError(
                    f"{option} {masked(spec)}: it holds a password or key, and knobs are written"
                    " into every table; leave it to the environment"
                )
    conditions = {name: entry for name, entry in study.space.items() if isinstance(entry, When)}
    for setting in sets:
        study = fix(study, setting)
    for spec in ranges:
        study = search_over(study, spec, conditions)
    study = with_further(study, {spec.partition("=")[0] for spec in (*sets, *ranges)})
    try:
        if num_epochs is not None:
            study = fix(study, f"num_epochs={num_epochs}")
        budget: dict[str, Any] = {
            "num_samples": num_samples,
            "seed": seed,
            "cpus_per_trial": cpus_per_trial,
            "gpus_per_trial": gpus_per_trial,
        }
        given = {key: value for key, value in budget.items() if value is not None}
        return dataclasses.replace(study, **given)
    except ValidationError as error:
        raise UsageError(one_line(error)) from None


def with_further(study: Study, named: Set[str]) -> Study:
    """The study with its `further` ranges whose condition is met, or may be; not the named ones."""
    space = dict(study.space)
    for name, entry in study.further.items():
        if name in named:
            continue
        if entry.parameter in space:
            choices = getattr(distribution(space, entry.parameter), "choices", entry.values)
            values = tuple(value for value in choices if value in entry.values)
            space[name] = dataclasses.replace(entry, values=values)
        elif getattr(study.config, entry.parameter) in entry.values:
            space[name] = entry.distribution
    return dataclasses.replace(study, space=space)


def fix(study: Study, setting: str) -> Study:
    """Give one knob or study setting a value and take it out of the search."""
    key, separator, text = setting.partition("=")
    if not separator:
        raise UsageError(f"--set {setting}: write it as KEY=VALUE")
    try:
        if key in SETTINGS:
            value = TypeAdapter(SETTINGS[key]).validate_python(text)
            return dataclasses.replace(study, **{key: value})
        check_knob(study, key, "--set")
        key, value = parse_setting(study.config, setting)
        config = dataclasses.replace(study.config, **{key: value})
    except ValidationError as error:
        raise UsageError(f"--set {setting}: {one_line(error)}") from None
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"--set {error}") from None  # which begins with KEY=VALUE
    return dataclasses.replace(study, config=config, space=without(study.space, key, value))


def search_over(study: Study, spec: str, conditions: Mapping[str, When]) -> Study:
    """Search one knob over the range the user gave, in place of the study's own.

    A knob with one of the task's `conditions` keeps it.
    """
    key = spec.partition("=")[0]
    check_knob(study, key, "--range")
    fixed = getattr(study.trainables, "STUDY_SETTINGS", ())
    if key in fixed:
        raise UsageError(
            f"--range {spec}: {key} is a setting of the whole study (all trials share one set of"
            f" cached features); fix it with --set {key}=VALUE and compare two searches"
        )
    try:
        key, distribution = parse_range(spec, type(getattr(study.config, key)))
        for value in ends(distribution):
            dataclasses.replace(study.config, **{key: value})
    except ValidationError as error:
        raise UsageError(f"--range {spec}: {one_line(error)}") from None
    except ValueError as error:
        raise UsageError(f"--range {spec}: {error}") from None
    if key in getattr(study.trainables, "FEATURE_KNOBS", ()):
        study = with_listed_features(study, spec, key, distribution)
    entry: Entry = distribution
    if key in conditions:
        entry = conditional(
            study, spec, dataclasses.replace(conditions[key], distribution=distribution)
        )
    return dataclasses.replace(study, space={**study.space, key: entry})


def with_listed_features(study: Study, spec: str, key: str, found: BaseDistribution) -> Study:
    """The study with a baseline that is among the values, each of which has features of its own.

    Raises UsageError where they are not listed.
    """
    if not isinstance(found, CategoricalDistribution):
        raise UsageError(
            f"--range {spec}: each {key} has cached features of its own; list the values, such as"
            f" {key}=224,320"
        )
    if getattr(study.config, key) in found.choices:
        return study
    first: dict[str, Any] = {key: found.choices[0]}
    return dataclasses.replace(study, config=dataclasses.replace(study.config, **first))


def conditional(study: Study, spec: str, entry: When) -> Entry:
    """The range under its condition, or for good where that is fixed and holds."""
    if entry.parameter in study.space:
        return entry
    value = getattr(study.config, entry.parameter)
    if value in entry.values:
        return entry.distribution
    raise UsageError(
        f"--range {spec}: this knob exists only while {entry.parameter} is"
        f" {one_of([str(v) for v in entry.values])}, and that is set to {value}"
    )


def ends(distribution: Any) -> list[Any]:
    """The values of a range that the config must accept: all choices, or both ends."""
    if hasattr(distribution, "choices"):
        return list(distribution.choices)
    return [distribution.low, distribution.high]


def check_knob(study: Study, key: str, option: str) -> None:
    """Raise UsageError that names the nearest knob when the task has no such knob."""
    knobs = [field.name for field in dataclasses.fields(study.config)]
    if key in knobs:
        return
    known = [*knobs, *SETTINGS]
    hint = difflib.get_close_matches(key, known, n=1)
    advice = f"did you mean {hint[0]}?" if hint else f"knobs: {', '.join(known)}"
    raise UsageError(f"{option} {key}: {study.task} has no such knob; {advice}")


def one_line(error: ValidationError) -> str:
    """pydantic's findings as one line."""
    findings = [
        f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
        + (f" (got {item['input']!r})" if isinstance(item["input"], str | int | float) else "")
        for item in error.errors()
    ]
    return "; ".join(findings)
