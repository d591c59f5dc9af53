"""The study of a built-in task, or of a Python file that the user names."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

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
    """Run the user's study file as a module whose functions travel to the workers by value."""
    from ray.cloudpickle import register_pickle_by_value  # here: reading a search needs no Ray

    if not path.is_file():
        raise UsageError(f"task file {path} does not exist")
    name = f"{USER_MODULE}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"task file {path} fails: {type(error).__name__}: {error}") from error
    register_pickle_by_value(module)
    return module
