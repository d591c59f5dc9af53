"""Folders and files that cannot be written: read as before, or one line that names them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaign import commands
from tests.stage import Ended, Stage

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="drops Linux capabilities")
READING = ["predict", "export", "report"]


def chmod(mode: str, *paths: Path) -> None:
    """Of these and all below."""
    subprocess.run(["chmod", "-R", mode, *map(str, paths)], check=True)


def told(stage: Stage, name: str, *read_only: str, elsewhere: bool = False) -> Ended:
    """How a command ends where these, below the search's folder or `data`, cannot be written."""
    command = commands(stage.work)[name]
    chmod("u+rwX", stage.work)
    stage.restore(command.before if command.before != "nothing" else "prepared")
    places = [stage.work / path for path in read_only]
    if present := [path for path in places if path.exists()]:
        chmod("a-w", *present)
    words = [*command.words, *stage.folders_of(command)]
    if elsewhere:
        out = stage.work / "tmp" / "out"
        words += ["--out", str(out if name == "export" else out.with_suffix(".csv"))]
    ended = stage.start(words, bound=True).wait(300)
    chmod("u+rwX", stage.work)
    assert ended.code is not None
    assert "Traceback" not in ended.err, ended.err
    assert "fault of the program" not in ended.err, ended.err
    return ended


SEARCH_DIR = "results/digits/one"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["predict", "export", "report", "retrain"])
def test_a_search_folder_that_cannot_be_written_is_named(stage: Stage, name: str) -> None:
    ended = told(stage, name, SEARCH_DIR)
    assert ended.code == 1
    assert SEARCH_DIR in ended.error
    assert len(ended.err.strip().splitlines()) == 1, ended.err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["predict", "export", "reproduce"])
def test_and_is_read_as_before(stage: Stage, name: str) -> None:
    ended = told(stage, name, SEARCH_DIR, "data", elsewhere=name != "reproduce")
    assert ended.code == 0, ended.err


@pytest.mark.slow
def test_prepared_data_that_cannot_be_written_serve_and_are_not_prepared(stage: Stage) -> None:
    assert told(stage, "retrain", "data").code == 0
    ended = told(stage, "prepare", "data")
    if ended.code != 0:
        assert "data/digits" in ended.error


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", list(commands(Path())))
def test_each_file_and_folder_alone(
    stage: Stage, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.restore("retrained")
    search_dir = stage.work / SEARCH_DIR
    paths = [p.relative_to(stage.work).as_posix() for p in [search_dir, *search_dir.rglob("*")]]
    paths += ["data", "data/digits", "data/digits/.prepare", "data/digits/packed", "tmp"]
    wrong = []
    for path in paths:
        try:
            ended = told(stage, name, path)
            if ended.code != 0:
                assert any(part in ended.error for part in (path, os.path.basename(path))), (
                    ended.err
                )
        except AssertionError as error:
            wrong.append(f"{path}: {str(error)[:2000]}")
    with capsys.disabled():
        sys.stdout.write(f"\n{name}: {len(paths)} files and folders, {len(wrong)} wrong\n")
    assert wrong == []
