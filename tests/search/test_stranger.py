"""A search folder from a stranger: whatever its files hold, no command runs or removes a thing."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search.cli import guarded
from search.records.sealed import seal
from tests.commands import RAY_WARNS, resnet_tune

pytestmark = RAY_WARNS

HTML = "<script>steal()</script><img src=x onerror=steal()>"
COMMANDS = [
    *("trials", "report", "retrain", "predict"),
    *("reproduce --trial t0000", "export --format safetensors"),
]
WITH_DATA = ("retrain", "predict", "reproduce")


class Evil:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with data and a whole search of the digits, made by `run`."""
    place = tmp_path_factory.mktemp("honest")
    folders = ["--data", str(place / "data"), "--results", str(place / "results")]
    size = ["--num-samples", "2", "--num-epochs", "1", "--set", "width=8", "--name", "one"]
    size += ["--no-confirm"]
    resnet_tune("run", "digits", *folders, *size)
    return place


@pytest.fixture
def place(honest: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it, with a thesis beside it; afterwards nothing has happened to that."""
    shutil.copytree(honest / "results", tmp_path / "results")
    thesis = tmp_path / "thesis"
    (thesis / "one" / "checkpoint").mkdir(parents=True)
    (thesis / "one" / "checkpoint" / "chapter.txt").write_text("years of work")
    (thesis / "evil.py").write_text(f"import os; os.mkdir({str(tmp_path / 'mark')!r})\n")
    before = tree(thesis)
    data = tree(honest / "data", content=False)
    yield tmp_path
    assert not (tmp_path / "mark").exists(), "code was run"
    assert before.items() <= tree(thesis).items(), "something was removed or changed"
    assert tree(honest / "data", content=False) == data


def tree(folder: Path, *, content: bool = True) -> dict[str, bytes]:
    """Every path below, with what the files hold."""
    paths = (path for path in folder.rglob("*") if "packed" not in path.parts)
    return {str(p): p.read_bytes() if content and p.is_file() else b"" for p in paths}


def search_dir(place: Path) -> Path:
    """The stranger's search."""
    return place / "results" / "digits" / "one"


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def evil_pickles(place: Path) -> None:
    """Every binary file is a pickle that runs code, in each of the shapes that loaders know."""
    evil, folder = Evil(place / "mark"), search_dir(place)
    archive, arrays = io.BytesIO(), io.BytesIO()
    torch.save({"model": evil}, archive)
    objects = np.empty(1, dtype=object)
    objects[0] = evil
    np.savez(arrays, ids=objects, labels=objects, probabilities=objects, classes=objects)
    for path in folder.rglob("*"):
        if path.suffix in (".pt", ".safetensors"):
            path.write_bytes(archive.getvalue())
        elif path.suffix in (".npz", ".npy"):
            path.write_bytes(arrays.getvalue())
        elif path.suffix in (".pkl", ".journal") or "ray" in path.parts and path.is_file():
            path.write_bytes(pickle.dumps(evil))


def plain_pickle(place: Path) -> None:
    """The model is a pickle without any wrapping."""
    for path in search_dir(place).rglob("*"):
        if path.suffix in (".pt", ".safetensors", ".npz"):
            path.write_bytes(pickle.dumps(Evil(place / "mark")))


def evil_task(place: Path) -> None:
    """search.json names a file to run."""

    def change(info: dict[str, Any]) -> None:
        info["overrides"]["task"] = str(place / "thesis" / "evil.py")

    edit(search_dir(place) / "search.json", change)


def evil_module(place: Path) -> None:
    """search.json names a module, and the folder holds one."""
    edit(search_dir(place) / "search.json", lambda info: info.update(task="thesis.evil"))


def escaping_paths(place: Path) -> None:
    """Names and paths lead to the thesis."""
    thesis = place / "thesis"

    def change(info: dict[str, Any]) -> None:
        info |= {"name": "../../../thesis", "storage": str(thesis)}
        info["overrides"] |= {"warm_start": [str(thesis)]}

    edit(search_dir(place) / "search.json", change)
    edit(search_dir(place) / "best.json", lambda best: best.update(trial_id="../../thesis"))
    outside = [str(thesis / "one"), "../../../thesis/one", "ray/../../../../thesis/one/checkpoint"]
    rewrite_ledger(place, lambda event, n: event.update(path=outside[n % 3]), "checkpoint")


def evil_ids(place: Path) -> None:
    """A trial's id is a path, its configuration no configuration."""
    rewrite_ledger(place, lambda event, n: event.update(trial="../../../thesis"), "start")


def evil_configuration(place: Path) -> None:
    """Knobs that no study has, and paths for values."""
    knobs = {"lr": str(place / "thesis" / "evil.py"), "__class__": "os.system", "seed": "rm -rf /"}
    rewrite_ledger(place, lambda event, n: event["config"].update(knobs), "start")
    edit(search_dir(place) / "retrain" / "config.json", lambda config: config.update(knobs))


def html(place: Path) -> None:
    """Text that a browser would run."""

    def change(info: dict[str, Any]) -> None:
        info |= {
            "name": HTML,
            "reference": HTML,
            "caveat": HTML,
            "sampler": HTML,
            "git_commit": HTML,
        }
        info["command"] = [HTML]
        info["data"]["classes"] = [HTML] * 10

    edit(search_dir(place) / "search.json", change)
    rewrite_ledger(place, lambda event, n: event.update(error=HTML, facts={"device": HTML}), "end")
    rewrite_ledger(place, lambda event, n: event["config"].update(schedule=HTML), "start")


def links(place: Path) -> None:
    """Folders that are written anew are links to the thesis."""
    folder = search_dir(place)
    shutil.rmtree(folder / "retrain")
    (folder / "retrain").symlink_to(place / "thesis")
    for name in ("report.html", "submission.csv", "trials.csv"):
        (folder / name).unlink()
        (folder / name).symlink_to(place / "thesis" / "one" / "checkpoint" / "chapter.txt")


def nonsense(place: Path) -> None:
    """Every file is something else."""
    for number, path in enumerate(sorted(search_dir(place).rglob("*"))):
        if path.is_file():
            path.write_bytes([b"", b"[]", b"\xff\xfe\x00", b'{"a": [1]}', b"null"][number % 5])


def rewrite_ledger(place: Path, change: Callable[[dict[str, Any], int], object], kind: str) -> None:
    """Change the events of a kind, and seal them again: a stranger can do that, too."""
    path, lines = search_dir(place) / "ledger.jsonl", []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        event = json.loads(line)
        event.pop("check", None)
        if event["event"] == kind:
            change(event, number)
        lines.append(seal(event, number))
    path.write_text("".join(lines))


ATTACKS = [
    *(evil_pickles, plain_pickle, evil_task, evil_module, escaping_paths, evil_ids),
    *(evil_configuration, html, links, nonsense),
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_command_does_what_a_strangers_folder_wants(
    attack: Callable[[Path], None],
    place: Path,
    honest: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    attack(place)
    for command in COMMANDS:
        capsys.readouterr()
        name, *options = command.split()
        options += ["--data", str(honest / "data")] if name in WITH_DATA else []
        code = guarded([name, str(search_dir(place)), *options], debug=False)
        told = capsys.readouterr().err
        assert code in (0, 1, 2)
        assert "fault of the program" not in told, (command, told)
        errors = [line for line in told.splitlines() if "error:" in line]
        assert len(errors) == (code != 0), (command, told)
    report = search_dir(place) / "report.html"
    if report.exists():
        assert "<script>steal" not in report.read_text()
        assert "<img src=x" not in report.read_text()


def test_a_resume_neither(
    place: Path, honest: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    for attack in (evil_pickles, evil_task, escaping_paths):
        attack(place)
    edit(search_dir(place) / "search.json", lambda info: info["overrides"].update(warm_start=[]))
    rewrite_ledger(place, lambda event, n: event.update(status="lost"), "end")
    folders = ["--data", str(honest / "data"), "--results", str(place / "results")]
    arguments = ["search", "digits", *folders, "--name", "one", "--resume"]
    capsys.readouterr()
    guarded(arguments, debug=False)
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert "fault of the program" not in told


@pytest.mark.slow
def test_a_confirmation_neither(
    place: Path, honest: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    for attack in (evil_pickles, escaping_paths):
        attack(place)
    (search_dir(place) / "confirm").symlink_to(place / "thesis")
    options = ["--data", str(honest / "data"), "--folds", "2", "--top", "1"]
    for task in ([], ["--task", "digits"]):
        capsys.readouterr()
        code = guarded(["confirm", str(search_dir(place)), *options, *task], debug=False)
        told = capsys.readouterr().err
        assert "fault of the program" not in told, told
        assert sum("error:" in line for line in told.splitlines()) == (code != 0), told
