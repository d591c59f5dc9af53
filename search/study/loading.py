"""The study of a built-in task, or of a Python file that the user names."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from search.console import notice
from search.errors import USER_MODULE
from search.errors import UsageError as UsageError
from search.study.study import Study

TASKS = ("digits", "cifar10", "dog_breed", "images")
DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def load_study(task: str) -> Study:
    """The study of a built-in task, or the `STUDY` that a Python file defines.

    `TASK-NAME` is the task on a data set of one's own, with folders of that name.
    Raises UsageError for an unknown name, a file that is missing, does not run or defines no STUDY.
    """
    base, _, dataset = task.partition("-")
    if task in TASKS:
        study = importlib.import_module(f"search.{task}").STUDY
    elif base in TASKS and DATASET.fullmatch(dataset):
        study = dataclasses.replace(importlib.import_module(f"search.{base}").STUDY, task=task)
    elif task.endswith(".py"):
        study = getattr(load_file(Path(task)), "STUDY", None)
    else:
        hint = difflib.get_close_matches(task, TASKS, n=1)
        raise UsageError(
            f"unknown task {task!r}: {f'did you mean {hint[0]}? ' if hint else ''}"
            f"use {', '.join(TASKS)}, or the path of a .py file that defines STUDY"
        )
    if not isinstance(study, Study):
        raise UsageError(f"{task} defines no STUDY = Study(...); see search/digits.py for one")
    return study


def load_file(path: Path) -> ModuleType:
    """Run the user's study file as a module whose functions travel to the workers by value.

    So do the modules that it imports from its own folder, which is on sys.path meanwhile: at the
    end, so that a file there does not stand in for a library.
    """
    from ray.cloudpickle import register_pickle_by_value  # here: reading a search needs no Ray

    if not path.is_file():
        raise UsageError(f"task file {path} does not exist")
    name = f"{USER_MODULE}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    before, folder = set(sys.modules), str(path.resolve().parent)
    sys.path.append(folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"task file {path} fails: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
    register_pickle_by_value(module)
    for other in set(sys.modules) - before:
        if file_below(sys.modules[other], Path(folder)) is not None:
            register_pickle_by_value(sys.modules[other])
    return module


def file_below(module: ModuleType, folder: Path) -> Path | None:
    """The module's file, where it lies in the folder or below."""
    file = getattr(module, "__file__", None)
    return Path(file) if file is not None and Path(file).is_relative_to(folder) else None


def files_of(task: str) -> list[Path]:
    """A study file that has been loaded, and the modules beside it that it has imported."""
    from ray.cloudpickle import list_registry_pickle_by_value

    folder = Path(task).resolve().parent
    loaded = [sys.modules[name] for name in list_registry_pickle_by_value() if name in sys.modules]
    beside = [file_below(module, folder) for module in loaded]
    return sorted({Path(task).resolve(), *(file for file in beside if file is not None)})


def digest(task: str) -> str | None:
    """SHA-256 of a study file of the user's own; None for a built-in task."""
    return hashlib.sha256(Path(task).read_bytes()).hexdigest() if task.endswith(".py") else None


def load_recorded(task: str, overrides: Mapping[str, Any], asked: str | None) -> Study:
    """The study that a search was run with: a built-in one, or the file that the user names.

    `task` and `overrides` are those of search.json, which may come from anywhere: no file is run
    because it is named there.
    `asked` is what the command line says. Raises UsageError where it must say something else.
    """
    recorded = overrides.get("task", task)
    if asked is None and str(recorded).endswith(".py"):
        raise UsageError(
            f"the search was made with the task file {recorded}, and no file is run that you do not"
            f" name: if you trust it, add --task {recorded}"
        )
    study = load_study(asked or str(recorded))
    if study.task != task:
        raise UsageError(f"{asked or recorded} is of {study.task}, the search of {task}")
    say_if_changed(asked or "", overrides)
    return study


def say_if_changed(task: str, overrides: Mapping[str, Any]) -> None:
    """One line where a study file is not what search.json says that the search began with."""
    recorded = overrides.get("task_digest")
    if recorded is not None and digest(task) not in (None, recorded):
        notice(f"task file {task} has changed since the search's last session")
