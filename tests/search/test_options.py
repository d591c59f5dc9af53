"""The options of the commands: a frozen list, and what is derived from their one definition."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from search.cli import app
from search.command_line.parameters import parameters, words
from search.options import Request, remembered, words_of_later_sessions

SEARCH: dict[str, Any] = {
    "--resume": False,
    "--max-checkpoints-gb": None,
    "--time-budget": None,
    "--patience": None,
    "--warm-start": None,
    "--max-concurrent": None,
    "--max-failures": 3,
    "--address": None,
    "--storage": None,
    "--mlflow": None,
    "--wandb": None,
    "--data": Path("data"),
    "--results": Path("results"),
    "--name": None,
    "--set": None,
    "--range": None,
    "--num-samples": None,
    "--num-epochs": None,
    "--seed": None,
    "--cpus-per-trial": None,
    "--gpus-per-trial": None,
    "--no-trial-batch": False,
    "--confirm": None,
}
PREPARE = {
    "--data": Path("data"),
    "--source": None,
    "--dataset": None,
    "--valid-fraction": None,
    "--split-seed": None,
    "--labels": None,
    "--image-folder": None,
    "--id-column": None,
    "--label-column": None,
    "--encoding": None,
}
FINISHED = {"--task": None, "--results": Path("results"), "--data": None}
SENT = FINISHED | {"--address": None}
LAST_STEPS = {"--calibrate": True, "--tta": "auto", "--ensemble": 0}
FROZEN: dict[str, dict[str, Any]] = {
    "prepare": PREPARE,
    "search": SEARCH,
    "check": SEARCH,
    "submit": {"--job-address": None, "--follow": True} | SEARCH,
    "run": PREPARE | SEARCH | LAST_STEPS,
    "confirm": SENT
    | {"--top": None, "--folds": 5, "--seeds": 1, "--storage": None, "--max-concurrent": None},
    "retrain": SENT | {"--trial": None, "--num-epochs": None, "--seeds": 1} | LAST_STEPS,
    "predict": SENT | {"--images": None, "--recursive": False, "--out": None},
    "reproduce": FINISHED | {"--trial": None},
    "export": FINISHED | {"--format": None, "--out": None},
    "show": {"--data": Path("data"), "--set": None, "--range": None, "--format": "table"},
    "report": {"--out": None, "--results": Path("results")},
    "trials": {
        "--sort": None,
        "--top": None,
        "--status": None,
        "--columns": None,
        "--format": "table",
        "--results": Path("results"),
    },
}


def command(name: str) -> Any:
    """The command as typer has made it."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return group.commands[name]


@pytest.mark.parametrize("name", FROZEN)
def test_the_options_of_a_command_are_these(name: str) -> None:
    options = [p for p in command(name).params if p.param_type_name == "option"]
    assert {option.opts[0]: option.default for option in options} == FROZEN[name]
    for option in options:
        assert option.help.rstrip().endswith((".", ")")), "a whole sentence"
        assert option.help[0].isupper()


def request(tmp_path: Path) -> Request:
    """Every kind of option."""
    return Request(
        task="digits",
        results=tmp_path,
        name="first",
        num_samples=8,
        sets=("lr=0.1", "momentum=0.9"),
        ranges=("batch_size=16,32",),
        resume=True,
        time_budget=90.0,
        warm_start=(tmp_path / "a", tmp_path / "b"),
        max_failures=0,
        confirm=False,
        gpus_per_trial="auto",
        mlflow="http://there",
    )


def test_options_are_typed_again_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Request] = []
    monkeypatch.setattr("search.commands.search", given.append)
    asked = request(tmp_path)
    typed = ["digits", *words(asked, absolute=True)]
    get_command(app)(["search", *typed], standalone_mode=False)
    assert given == [dataclasses.replace(asked, data=Path("data").absolute())]


def test_a_resume_is_told_what_is_not_remembered_and_nothing_else(tmp_path: Path) -> None:
    told = words_of_later_sessions(request(tmp_path))
    expected = ["--max-failures", "0", "--mlflow", "http://there", "--results", str(tmp_path)]
    expected.append("--no-confirm")
    assert told == expected
    assert set(remembered()) == {
        *("warm_start", "sets", "ranges", "num_samples", "num_epochs"),
        *("seed", "cpus_per_trial", "gpus_per_trial"),
    }


def test_help_has_panels_and_fits_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    get_command(app)(["run", "--help"], standalone_mode=False, prog_name="resnet-tune")
    text = capsys.readouterr().out
    panels = [line[:-1] for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert panels == [
        *("Arguments", "Options", "What is searched", "Budget"),
        *("Where it runs and is kept", "Tracking"),
    ]
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text, "clean in a pipe"
    assert "─" not in text


def test_every_option_of_a_search_has_a_default() -> None:
    found = [parameter.name for parameter in parameters(Request)]
    assert len(found) == len(set(found)) == len(SEARCH) + 1, "TASK and the options"
