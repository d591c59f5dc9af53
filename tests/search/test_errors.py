"""Whose fault an error is, faults put in on purpose, and secrets that no message shows."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.digits import LAYOUT
from data_prep.prepare import prepare
from search.cli import guarded
from search.command_line.interrupts import Interrupted, listening
from search.errors import ProgramFault, UserError, faults_logged, mistake, write_fault
from search.options import Request
from search.plan import resume_command
from search.records.ledger import TrialRecord
from search.records.search import load
from search.study.loading import load_study
from search.text import MASK, masked
from tests.ledgers import make_search

Break = Callable[..., object]


def fail(request: Request) -> None:
    raise AssertionError("not to be reached")


FAULTS: dict[str, Break] = {
    "KeyError": lambda request: dict[str, str]()["status"],
    "TypeError": lambda request: len(3),  # type: ignore[arg-type]
    "ValueError of a library": lambda request: np.concatenate([]),
    "ValueError of Python in our line": lambda request: TrialRecord("tx", {}).number,
    "AssertionError": fail,
    "OSError without a file": lambda request: os.read(-1, 1),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_program_is_one_line_and_a_traceback_in_a_file(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("search.commands.search", FAULTS[name])
    assert guarded(["search", "digits"], debug=False) == 1
    told = capsys.readouterr().err
    assert len(told.strip().splitlines()) == 1
    assert name.split()[0] in told
    log = re.search(r"not yours .* the traceback is in (\S+), and --debug", told)
    assert log is not None, told
    try:
        assert Path(log[1]).read_text().count("Traceback (most recent call last)") == 1
        assert Path(log[1]).stat().st_mode & 0o077 == 0
    finally:
        Path(log[1]).unlink()


def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("search.commands.search", FAULTS["KeyError"])
    guarded(["search", "digits"], debug=True)
    told = capsys.readouterr().err
    assert "Traceback" in told
    log = re.search(r"traceback is in (\S+),", told)
    assert log is not None
    Path(log[1]).unlink()


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda request: Path("no/where").read_text(), "no/where: No such file or directory"),
        (lambda request: load("no/where"), "no search in no/where"),
        (lambda request: load_study("digit"), "did you mean digits?"),
    ],
)
def test_the_users_mistake_is_told_as_such(
    broken: Break,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("search.commands.search", broken)
    assert guarded(["search", "digits"], debug=False) in (1, 2)
    told = capsys.readouterr().err
    assert words in told
    assert "fault of the program" not in told


def test_a_full_disk_is_nobodys_programming_error() -> None:
    assert mistake(OSError(28, "No space left on device")) == (
        "No space left on device; make room and start again"
    )


def test_a_file_system_without_locks_is_told() -> None:
    assert mistake(OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))) == (
        "No locks available: the file system of the folder cannot lock files; use another"
    )


def test_an_error_in_the_users_own_file_names_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from search.digits import STUDY\ndef later():\n    return 1 / 0\n")
    load_study(str(file))
    with pytest.raises(ZeroDivisionError) as caught:
        sys.modules["resnet_tune_user_mine"].later()
    expected = f"task file {file} fails: ZeroDivisionError: division by zero; see --debug"
    assert mistake(caught.value) == expected


def test_faults_are_logged_in_the_search_each_once(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ProgramFault) as caught, faults_logged(tmp_path):
            with faults_logged(tmp_path):
                FAULTS["KeyError"](None)
        assert caught.value.log == tmp_path / "errors.log"
    assert (tmp_path / "errors.log").read_text().count("KeyError: 'status'") == 2
    with pytest.raises(UserError), faults_logged(tmp_path):
        raise UserError("a mistake")
    assert (tmp_path / "errors.log").read_text().count("Traceback") == 2


# Secrets.
TEXT = st.text(st.characters(codec="utf-8"), min_size=4, max_size=20)


@given(user=TEXT, password=TEXT, key=TEXT)
def test_no_password_or_key_of_a_uri_is_shown(user: str, password: str, key: str) -> None:
    user, password, key = (f"Q{quote(part, safe='')}Q" for part in (user, password, key))
    for uri in (
        f"https://{user}:{password}@host:80/path?api_key={key}&region=eu",
        f"s3://{user}:{password}@bucket/path?region=eu&session_token={key}",
        f"abfss://{user}:{password}@account/path?sig={key}",
        f"postgresql+psycopg2://{password}@host/db?x=1&SecretKey={key}#end",
    ):
        shown = masked(f"storage {uri} cannot be opened")
        assert password not in shown
        assert key not in shown
        assert "region=eu" in shown or "region" not in uri
        assert masked(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:a/b+c@host/x", f"http://{MASK}@host/x"),  # a slash that should be %2F
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("abfs://container@account.net/x", "abfs://container@account.net/x"),
        ("lr=0.1 --range key=1..2", "lr=0.1 --range key=1..2"),
    ],
)
def test_what_is_masked_and_what_is_not(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_secrets_of_the_environment_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    assert masked("wandb said: 0123456789abcdef is wrong") == f"wandb said: {MASK} is wrong"


def test_errors_log_and_resume_command_hold_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = "http://me:geheim@host/x"
    monkeypatch.setattr(sys, "argv", ["resnet-tune", "search", "--mlflow", uri])
    log = write_fault(KeyError(uri), tmp_path)
    assert "geheim" not in log.read_text()
    request = Request(task="digits", mlflow=uri)
    found = load(make_search(tmp_path / "first"))
    told = resume_command(request, found.path)
    assert told == (
        f"resnet-tune search digits --name first --resume --mlflow 'http://{MASK}@host/x'"
        f" (with the password or key in place of {MASK})"
    )


@pytest.mark.parametrize("moment", [0.2, 2.0, 5.0])
def test_ctrl_c_before_a_search_has_begun(moment: float, tmp_path: Path) -> None:
    """While libraries are imported, and while Ray starts; a busy machine may shift the moments."""
    prepare(LAYOUT, None, tmp_path / "digits")
    script = "print(flush=True); import sys; from search.cli import main; main(sys.argv[1:])"
    folders = ["--data", str(tmp_path), "--results", str(tmp_path / "results")]
    process = subprocess.Popen(
        [sys.executable, "-c", script, "search", "digits", *folders],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(1 + moment)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert "Traceback" not in told
    assert "interrupted" in told
    if not (tmp_path / "results").exists():
        assert told == "resnet-tune: interrupted\n"


def test_a_closed_pipe_ends_with_141() -> None:
    script = "from search import cli, console, commands;" + (
        "commands.search = lambda request: [console.say('x' * 99) for _ in range(9999)];"
        "cli.main(['search', 'digits'])"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_a_signal_in_a_finaliser_is_not_lost() -> None:
    class Late:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    def wait() -> None:
        Late()
        time.sleep(5)

    with listening(), pytest.raises(Interrupted, match="SIGTERM"):
        wait()
