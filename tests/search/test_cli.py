"""The command line: help, and one clear line for everything a user may get wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from data_prep.digits import LAYOUT
from data_prep.prepare import prepare
from search.cli import app, guarded

COMMANDS = [
    "prepare",
    "search",
    "trials",
    "report",
    "retrain",
    "predict",
    "reproduce",
    "export",
    "run",
]


@pytest.fixture(scope="session")
def digits_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the digits prepared."""
    data = tmp_path_factory.mktemp("data")
    prepare(LAYOUT, None, data / "digits")
    return data


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded([command, "--help"], debug=False) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"Example: resnet-tune {command}" in text


def test_the_contracts_commands_are_there() -> None:
    assert {info.callback.__name__ for info in app.registered_commands if info.callback} >= set(
        COMMANDS
    )


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["search", "digit"], 2, "did you mean digits?"),
        (["search", "nothing.py"], 2, "nothing.py does not exist"),
        (["search", "digits", "--data", "no/where"], 1, "run `resnet-tune prepare digits`"),
        (["prepare", "cifar10", "--source", "no/where"], 2, "--source no/where does not exist"),
        (["prepare", "cifar10"], 2, "needs --source"),
        (["prepare", "digits", "--valid-fraction", "1.5"], 2, "between 0 and 1"),
        (["search", "digits", "--set", "learning_rate=1"], 2, "no such knob"),
        (["search", "digits", "--set", "momentun=0.5"], 2, "did you mean momentum?"),
        (["search", "digits", "--set", "lr=fast"], 2, "--set lr=fast: Input"),
        (["search", "digits", "--set", "lr=-1"], 2, "greater than 0"),
        (["search", "digits", "--set", "lr"], 2, "KEY=VALUE"),
        (["search", "digits", "--set", "sampler=magic"], 2, "sampler=magic"),
        (["search", "digits", "--range", "lr=1..2..3"], 2, "--range lr=1..2..3"),
        (["search", "digits", "--range", "lr=-1..1"], 2, "--range lr=-1..1"),
        (["search", "digits", "--range", "lrr=0..1"], 2, "did you mean lr?"),
        (["search", "dog_breed", "--range", "num_views=1..9"], 2, "setting of the whole study"),
        (["search", "dog_breed", "--set", "backbone=timm/resnet_34"], 2, "did you mean timm/"),
        (["search", "dog_breed", "--set", "weights=/x"], 2, "--set weights=/x: no file /x; give"),
        (["search", "dog_breed", "--set", "weights=IMAGENET1K_V9"], 2, "has IMAGENET1K_V1"),
        (
            ["search", "dog_breed", "--set", "weights=random", "--set", "backbone=squeezenet1_1"],
            2,
            "not in a linear layer",
        ),
        (["search", "digits", "--num-samples", "0"], 2, "--num-samples"),
        (["search", "digits", "--num-samples", "many"], 2, "--num-samples"),
        (["search", "digits", "--time-budget", "soon"], 2, "write it like 90s"),
        (["search", "digits", "--storage", ""], 2, "--storage is empty"),
        (["search", "digits", "--storage", "s3:/x"], 2, "write a URI like s3://bucket/folder"),
        (["search", "digits", "--name", "../x"], 2, "--name"),
        (["search", "digits", "--resume"], 1, "no search of digits under"),
        (["search", "digits", "--wrong"], 2, "--wrong"),
        (["trials", "no/where"], 1, "no search in no/where"),
        (["trials"], 1, "run `resnet-tune search TASK` first"),
        (["retrain", "no/where"], 1, "no search in no/where"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_a_mistake_costs_one_line(
    arguments: list[str],
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert guarded(arguments, debug=False) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_results_that_cannot_be_written(
    digits_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("not a folder")
    results = str(tmp_path / "file")
    arguments = ["search", "digits", "--data", str(digits_data), "--results", results]
    assert guarded(arguments, debug=False) == 1
    assert "choose another --results" in capsys.readouterr().err


def test_an_empty_download(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    (source / "train").mkdir(parents=True)
    (source / "test").mkdir()
    (source / "trainLabels.csv").write_text("id,label\n")
    data = tmp_path / "data"
    arguments = ["prepare", "cifar10", "--source", str(source), "--data", str(data)]
    assert guarded(arguments, debug=False) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_more_gpus_than_there_are(
    digits_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    arguments = ["search", "digits", "--data", str(digits_data), "--results", str(results)]
    assert guarded([*arguments, "--gpus-per-trial", "8"], debug=False) == 1
    assert "asks for 8 GPUs" in capsys.readouterr().err
    assert not results.exists()


def test_a_task_file_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    assert guarded(["search", str(tmp_path / "broken.py")], debug=False) == 2
    assert "ZeroDivisionError: division by zero" in capsys.readouterr().err
    (tmp_path / "empty.py").write_text("")
    assert guarded(["search", str(tmp_path / "empty.py")], debug=False) == 2
    assert "defines no STUDY" in capsys.readouterr().err


OFFERED = {
    "resnet-tune search dog": {"dog_breed"},
    "resnet-tune search digits --set mom": {"momentum="},
    "resnet-tune search dog_breed --range lr_": {"lr_period=", "lr_decay="},
    "resnet-tune show cifar10 --set sam": {"sampler="},
    "resnet-tune search own.py --set mom": set(),
}
COMPLETE = """
import contextlib, os, sys
from search.cli import main
for typed in sys.argv[1:]:
    sys.argv[0] = "resnet-tune"
    os.environ |= {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    with contextlib.suppress(SystemExit):
        main()
    print("next")
"""


def test_the_shell_completes_tasks_and_knobs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMPLETE, *OFFERED],
        env={**os.environ, "_RESNET_TUNE_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = [set(told.split()) for told in done.stdout.split("next\n")[:-1]]
    assert found == list(OFFERED.values()), done.stderr


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_command_ends_by_a_signal_as_by_ctrl_c(tmp_path: Path, kind: signal.Signals) -> None:
    study = tmp_path / "study.py"
    study.write_text(f"import os\nos.kill(os.getpid(), {int(kind)})\n")
    done = subprocess.run(
        [sys.executable, "-m", "search", "show", str(study)], capture_output=True, text=True
    )
    assert done.returncode == 128 + kind
    assert done.stderr == "resnet-tune: interrupted\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody unknown")
def test_a_user_without_a_home_gets_one() -> None:
    code = (
        "import os; from pathlib import Path; from search.command_line.home import settle_home;"
        "os.environ.pop('HOME', None); os.setuid(54321); settle_home(); print(Path.home())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == tempfile.gettempdir()
