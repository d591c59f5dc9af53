"""What the shell completes: tasks, and the knobs of the task that was typed."""

from __future__ import annotations

import dataclasses

import typer


def complete_task(incomplete: str) -> list[str]:
    """The tasks that come with the project."""
    from search.study.loading import TASKS

    return [task for task in TASKS if task.startswith(incomplete)]


def complete_setting(context: typer.Context, incomplete: str) -> list[str]:
    """`knob=` for every knob and study setting of the TASK that was typed before."""
    from search.study.overrides import SETTINGS

    return [f"{name}=" for name in [*knobs(context), *SETTINGS] if name.startswith(incomplete)]


def complete_range(context: typer.Context, incomplete: str) -> list[str]:
    """`knob=` for every knob of the TASK that was typed before."""
    return [f"{name}=" for name in knobs(context) if name.startswith(incomplete)]


def knobs(context: typer.Context) -> list[str]:
    """Names of the task's knobs; none of a user's file, which completing must not run."""
    from search.study.loading import TASKS, load_study

    # An option that still lacks its value stops typer before it has parsed the argument.
    task = str(context.params.get("task") or next(iter(context.args), ""))
    if task.partition("-")[0] not in TASKS:
        return []
    return [field.name for field in dataclasses.fields(load_study(task).config)]
