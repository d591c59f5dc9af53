"""Study files of one's own: what they bring along, and that none is run unless it is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle

from search.cli import guarded
from search.cluster.submit import packed_code
from search.errors import UsageError
from search.files import read_json, write_json
from search.study.loading import digest, files_of, load_recorded, load_study
from tests.ledgers import make_search

MINE = """
import dataclasses
import {name}_parts.deep as parts
from search.digits import STUDY as DIGITS
def double(x):
    return parts.twice(x)
STUDY = dataclasses.replace(DIGITS, task="mine")
"""


def study_file(folder: Path, name: str) -> Path:
    """A study whose file imports a package beside it."""
    (folder / f"{name}_parts").mkdir(parents=True)
    (folder / f"{name}_parts" / "__init__.py").write_text("")
    (folder / f"{name}_parts" / "deep.py").write_text("def twice(x):\n    return 2 * x\n")
    (folder / f"{name}.py").write_text(MINE.format(name=name))
    (folder / "torch.py").write_text("raise RuntimeError('the wrong one')")
    return folder / f"{name}.py"


def test_modules_beside_a_study_file_travel_by_value(tmp_path: Path) -> None:
    path = study_file(tmp_path / "here", "alpha")
    before = list(sys.path)
    load_study(str(path))
    assert sys.path == before
    (tmp_path / "function").write_bytes(cloudpickle.dumps(sys.modules["resnet_tune_user_alpha"]))
    code = f"import pickle; print(pickle.load(open({str(tmp_path / 'function')!r},'rb')).double(4))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.stdout.strip() == "8", done.stderr


def test_a_job_gets_the_modules_beside_a_study_file(tmp_path: Path) -> None:
    path = study_file(tmp_path, "beta")
    load_study(str(path))
    assert [file.relative_to(tmp_path).as_posix() for file in files_of(str(path))] == [
        "beta.py",
        "beta_parts/__init__.py",
        "beta_parts/deep.py",
    ]
    with packed_code(str(path)) as (folder, task):
        assert task == "beta.py"
        assert (folder / "beta_parts" / "deep.py").is_file()
        assert not (folder / "torch.py").exists(), "only what is imported"


def evil_search(folder: Path, **overrides: Any) -> Path:
    """A search whose search.json names a file that leaves a mark when it is run."""
    evil = folder / "evil.py"
    evil.write_text(f"open({str(folder / 'mark')!r}, 'w')\nfrom search.digits import STUDY\n")
    found = make_search(folder / "results" / "digits" / "a", trials=3)
    info = read_json(found / "search.json")
    write_json(found / "search.json", {**info, "overrides": {"task": str(evil), **overrides}})
    return found


@pytest.mark.parametrize("command", ["retrain", "predict"])
def test_no_file_is_run_because_search_json_names_it(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evil_search(tmp_path)
    assert guarded([command, str(found)], debug=False) == 2
    told = capsys.readouterr().err
    assert f"if you trust it, add --task {tmp_path / 'evil.py'}" in told
    assert len(told.strip().splitlines()) == 1
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("command", ["trials", "report"])
def test_looking_at_a_search_runs_nothing(command: str, tmp_path: Path) -> None:
    found = evil_search(tmp_path)
    assert guarded([command, str(found)], debug=False) == 0
    assert not (tmp_path / "mark").exists()


def test_a_resume_uses_the_task_of_the_command_line_alone(tmp_path: Path) -> None:
    found = evil_search(tmp_path)
    arguments = ["search", "digits", "--name", found.name, "--resume", "--data", str(tmp_path)]
    assert guarded([*arguments, "--results", str(tmp_path / "results")], debug=False) == 1
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "task",
    [
        *(
            "../evil",
            "digits.evil",
            "digits; import os",
            "os",
            "images-../../x",
            "",
            "search.digits",
        ),
        *("search.digits", ["digits"], 3, {"a": 1}, None),
    ],
)
def test_odd_names_of_tasks_are_refused(task: object) -> None:
    with pytest.raises(UsageError):
        load_recorded("digits", {"task": task}, None)


def test_the_named_file_is_run_and_a_changed_one_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gamma.py"
    path.write_text("from search.digits import STUDY\n")
    recorded = {"task": str(path), "task_digest": digest(str(path))}
    assert load_recorded("digits", recorded, str(path)).task == "digits"
    assert capsys.readouterr().err == ""
    path.write_text("from search.digits import STUDY\n# another line\n")
    load_recorded("digits", recorded, str(path))
    told = capsys.readouterr().err
    assert told.strip() == f"task file {path} has changed since the search's last session"
    with pytest.raises(UsageError, match="is of digits, the search of other"):
        load_recorded("other", recorded, str(path))


@pytest.mark.parametrize(
    ("name", "value"), [("sets", 5), ("sets", [1]), ("num_samples", "many"), ("seed", [])]
)
def test_odd_options_in_search_json_are_one_line(
    name: str, value: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evil_search(tmp_path, **{name: value})
    arguments = ["search", "digits", "--name", found.name, "--resume", "--data", str(tmp_path)]
    assert guarded([*arguments, "--results", str(tmp_path / "results")], debug=False) == 1
    told = capsys.readouterr().err
    assert f"overrides/{name}" in told
    assert len(told.strip().splitlines()) == 1
