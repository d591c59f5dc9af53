"""`resnet-tune show`: every knob of a study with its default, range, unit and meaning."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import annotated_types
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from search.errors import UsageError
from search.records.knobs import read_knob
from search.records.manifest import KnobEntry
from search.study.space import describe_space
from search.study.study import Study
from search.text import compact, plain
from trainables.config import TrainConfig, Unit

STYLES = ("table", "json")
PIPE_WIDTH = 120  # characters of a table that is not for a terminal
NARROW = 100  # below it meanings stand under their knobs, not beside them
LARGEST_SHOWN = 10**9  # a bound beyond it (of seeds) tells nobody anything
BOUNDS = (
    (annotated_types.Ge, "ge", ">="),
    (annotated_types.Gt, "gt", ">"),
    (annotated_types.Le, "le", "<="),
    (annotated_types.Lt, "lt", "<"),
)


def show_study(study: Study, style: str = "table", width: int | None = None) -> str:
    """The study as text. `width` is in terminal cells. Raises UsageError for another style."""
    if style not in STYLES:
        raise UsageError(f"--format {style!r}: choose from {', '.join(STYLES)}")
    described = describe_study(study)
    if style == "json":
        return json.dumps(described, indent=1, ensure_ascii=False, default=str) + "\n"
    return as_table(described, width or PIPE_WIDTH)


def describe_study(study: Study) -> dict[str, Any]:
    """All that `show` tells: the study's settings, then `knobs`, one dict each."""
    return {
        "task": study.task,
        "metric": study.metric,
        "mode": study.mode,
        "num_samples": study.num_samples,
        "num_epochs": study.num_epochs,
        "sampler": study.sampler if isinstance(study.sampler, str) else repr(study.sampler),
        "scheduler": study.scheduler,
        "rungs": list(study.rungs),
        "submission": study.submission,
        "trains": study.trains,
        "presets": list(study.points_to_evaluate),
        "expected": study.reference,
        "caveat": study.caveat,
        "knobs": list(describe_knobs(study)),
    }


def describe_knobs(study: Study) -> Iterator[dict[str, Any]]:
    """Each knob: name, default (what trial 0 uses), searched range or None, unit, meaning."""
    space = describe_space(study.space)
    entries = {name: KnobEntry.model_validate(entry) for name, entry in space.items()}
    searched = {name: read_knob(name, entry) for name, entry in entries.items()}
    settings = getattr(study.trainables, "STUDY_SETTINGS", ())
    names = [field.name for field in dataclasses.fields(study.config)]
    for name in [*searched, *(name for name in names if name not in searched)]:
        knob = searched.get(name)
        condition = None
        if knob is not None and knob.parent is not None:
            condition = f"{knob.parent} = {' or '.join(map(str, knob.parent_values))}"
        yield {
            "name": name,
            "default": getattr(study.config, name),
            "searched": None if knob is None else knob.spec,
            "only_if": condition,
            "allowed": allowed(type(study.config), name),
            "unit": unit(type(study.config), name),
            "study_setting": name in settings,
            "meaning": meaning(type(study.config), name),
        }


def fields_of(config: type[TrainConfig], name: str) -> Iterator[Any]:
    """The field as pydantic knows it, from the class that overrides it to the one that began it."""
    for kind in config.__mro__:
        fields = vars(kind).get("__pydantic_fields__", {})
        if name in fields and name in vars(kind).get("__annotations__", {}):
            yield fields[name]


def meaning(config: type[TrainConfig], name: str) -> str:
    """The text below the field in the source, its own or that of the class it is inherited from."""
    texts = (field.description for field in fields_of(config, name))
    return " ".join(next(filter(None, texts), "").split())


def unit(config: type[TrainConfig], name: str) -> str:
    """What its numbers count; `yes/no` and `name` for what is none."""
    for field in fields_of(config, name):
        for extra in field.metadata:
            if isinstance(extra, Unit):
                return extra.name
        if field.annotation is bool:
            return "yes/no"
        if field.annotation is str or get_origin(field.annotation) is Literal:
            return "name"
    return ""


def allowed(config: type[TrainConfig], name: str) -> str:
    """The values that the configuration accepts, as far as its type says."""
    field = next(fields_of(config, name), None)
    if field is None:
        return ""
    if get_origin(field.annotation) is Literal:
        return ", ".join(map(str, get_args(field.annotation)))
    if field.annotation is bool:
        return "false, true"
    return ", ".join(
        f"{sign} {compact(getattr(bound, key))}"
        for bound in field.metadata
        for kind, key, sign in BOUNDS
        if isinstance(bound, kind) and getattr(bound, key) <= LARGEST_SHOWN
    )


def as_table(described: dict[str, Any], width: int) -> str:
    """The study for a terminal of this width: settings, then the searched and the fixed knobs."""
    console = Console(width=width, highlight=False, color_system=None)
    with console.capture() as captured:
        for line in headline(described):
            console.print(Text(plain(line)))
        knobs = described["knobs"]
        searched = [knob for knob in knobs if knob["searched"]]
        fixed = [knob for knob in knobs if not knob["searched"]]
        groups = {"searched": searched, "fixed (--set changes, --range searches)": fixed}
        for title, group in groups.items():
            console.print()
            layout = knob_table if width >= NARROW else knob_list
            console.print(layout(group, title))
        if any(knob["study_setting"] for knob in knobs):
            console.print(Text("* of the whole study: all trials share one set of features"))
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def headline(described: dict[str, Any]) -> Iterator[str]:
    """What stands above the tables."""
    better = "higher" if described["mode"] == "max" else "lower"
    yield f"{described['task']}: {described['metric']} ({better} is better)"
    if described["trains"]:
        yield f"trains: {described['trains']}"
    yield f"budget: {described['num_samples']} trials of at most {described['num_epochs']} epochs"
    rungs = ", ".join(map(str, described["rungs"])) or "none"
    yield f"early stopping: {described['scheduler']}, trials compared at epochs: {rungs}"
    yield f"sampler: {described['sampler']}; submission: {described['submission']}"
    yield "trial 0 runs the default of every knob"
    for number, preset in enumerate(described["presets"], start=1):
        changes = {
            knob["name"]: preset[knob["name"]]
            for knob in described["knobs"]
            if knob["name"] in preset and preset[knob["name"]] != knob["default"]
        }
        yield f"trial {number}: " + ", ".join(f"{k}={compact(v)}" for k, v in changes.items())
    if described["expected"]:
        yield f"expected: {described['expected']}"
    if described["caveat"]:
        yield f"note: {described['caveat']}"


def knob_list(knobs: list[dict[str, Any]], title: str) -> Group:
    """A line a knob, its meaning indented below it: for narrow terminals."""
    parts: list[Text | Padding] = [Text(title)]
    for knob in knobs:
        *cells, told = knob_cells(knob)
        parts.append(Text("  ".join(filter(None, cells))))
        parts.append(Padding(Text(told), (0, 0, 0, 4)))
    return Group(*parts)


def knob_cells(knob: dict[str, Any]) -> list[str]:
    """Name, default, values, unit and meaning of one knob as text."""
    mark = "*" if knob["study_setting"] else ""
    values = knob["searched"] or knob["allowed"]
    only = f" Only if {knob['only_if']}." if knob["only_if"] else ""
    cells = [knob["name"] + mark, compact(knob["default"]), values, knob["unit"]]
    return [plain(cell) for cell in [*cells, knob["meaning"] + only]]


def knob_table(knobs: list[dict[str, Any]], title: str) -> Table:
    """One row a knob."""
    is_searched = any(knob["searched"] for knob in knobs)
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("knob", overflow="fold")
    table.add_column("default", overflow="fold")
    table.add_column("range" if is_searched else "allowed", overflow="fold")
    table.add_column("unit", overflow="fold")
    table.add_column("meaning", ratio=1)
    for knob in knobs:
        table.add_row(*map(Text, knob_cells(knob)))
    return table
