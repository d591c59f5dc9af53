"""Dataclasses of options as commands: typer's signature and the words to type, from the fields.

A field whose type is annotated for typer is an option; nothing about it is said a second time.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer
from typer.core import TyperCommand
from typer.models import ArgumentInfo, ParameterInfo

SEARCHED = "What is searched"
BUDGET = "Budget"
PLACES = "Where it runs and is kept"
TRACKING = "Tracking"
PANELS = ("Arguments", "Options", SEARCHED, BUDGET, PLACES, TRACKING)

RESULTS = Path("results")
Results = Annotated[
    Path,
    typer.Option(metavar="DIR", rich_help_panel=PLACES, help="The parent folder of all results."),
]

# Further notes on an option's type
REMEMBERED = "remembered"  # in search.json: a resume takes it over where it is not said again
ONE_SESSION = "one session"  # not part of the command that resumes


@dataclass(frozen=True)
class Parameter:
    """One option, or argument, of a model."""

    name: str
    kind: Any
    """Its type; of a repeatable option the type of one value."""
    info: ParameterInfo
    default: Any
    notes: tuple[Any, ...]

    @property
    def flag(self) -> str:
        """As it is typed."""
        named = self.info.default  # of an annotation, this is the first of the option's names
        return named if isinstance(named, str) else f"--{self.name.replace('_', '-')}"

    @property
    def repeatable(self) -> bool:
        """Whether it may be given several times."""
        return bool(self.default == ())

    def as_typer_wants(self) -> inspect.Parameter:
        """The parameter of a command's function."""
        kind, default = self.kind, self.default
        if self.repeatable:
            kind, default = list.__class_getitem__(kind) | None, None
        elif default is dataclasses.MISSING:
            default = inspect.Parameter.empty
        annotation = Annotated[kind, self.info]  # type: ignore[valid-type]
        place = inspect.Parameter.KEYWORD_ONLY
        return inspect.Parameter(self.name, place, default=default, annotation=annotation)


def parameters(model: type) -> Iterator[Parameter]:
    """The options of a model, in the order of its fields."""
    hints = get_type_hints(model, include_extras=True)
    for field in dataclasses.fields(model):
        notes = getattr(hints[field.name], "__metadata__", ())
        infos = [note for note in notes if isinstance(note, ParameterInfo)]
        if infos:
            kind = hints[field.name].__origin__
            kind = get_args(kind)[0] if field.default == () else kind
            yield Parameter(field.name, kind, infos[0], field.default, notes)


def words(options: Any, *, absolute: bool, without: Container[str] = ()) -> list[str]:
    """The options as they are typed, but for defaults, arguments, and names in `without`.

    With `absolute`, paths do not depend on the folder in which the words are typed.
    """
    typed: list[str] = []
    for parameter in parameters(type(options)):
        value = getattr(options, parameter.name)
        if isinstance(parameter.info, ArgumentInfo) or parameter.name in without:
            continue
        if value == parameter.default and not (absolute and isinstance(value, Path)):
            continue
        on, _, off = parameter.flag.partition("/")
        for one in value if parameter.repeatable else [value]:
            text = str(one.absolute() if isinstance(one, Path) and absolute else one)
            typed += [on if one else off] if isinstance(one, bool) else [on, text]
    return typed


def takes(*models: type) -> Callable[[Callable[..., int | None]], Callable[..., None]]:
    """Make a command of a function of such option objects; its result is the exit code.

    Options of the same name in several models are one option, and go to each.
    """
    found = {parameter.name: parameter for model in models for parameter in parameters(model)}

    def decorate(function: Callable[..., int | None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**values: Any) -> None:
            for name, parameter in found.items():
                if parameter.repeatable:
                    values[name] = tuple(values[name] or ())
            own = [{p.name: values[p.name] for p in parameters(model)} for model in models]
            made = [model(**fields) for model, fields in zip(models, own, strict=True)]
            raise typer.Exit(function(*made) or 0)

        signature = inspect.Signature([p.as_typer_wants() for p in found.values()])
        command.__signature__ = signature  # type: ignore[attr-defined]
        command.__annotations__ = {}
        return command

    return decorate


class Panels(TyperCommand):
    """A command whose help shows its options in panels: plain text, which a pipe takes as well."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """A section for each panel."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            argument = parameter.param_type_name == "argument"
            panel = getattr(parameter, "rich_help_panel", None)
            record = parameter.get_help_record(ctx)
            if record is not None:
                name = panel or PANELS[0 if argument else 1]
                panels.setdefault(name, []).append(record)
        for name in sorted(panels, key=PANELS.index):
            with formatter.section(name):
                formatter.write_dl(panels[name])
