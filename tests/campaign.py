"""Any command killed, or its disk full, at a random moment; then it completes as if nothing was."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from search.records.runs import Plan
from search.records.search import Search, load
from search.records.statuses import FINISHED
from search.study.loading import load_study
from tests.disks import fill, small_disk
from tests.finished import confirm_here, digits_search
from tests.stage import GONE, Command, Ended, Stage, left, used

SMALL = ["width=8", "batch_size=128", "schedule=constant", "sampler=random", "scheduler=none"]
SEARCH = ["--name", "one", "--num-epochs", "2", "--no-confirm", "--no-trial-batch"]
SEARCH += [word for setting in SMALL for word in ("--set", setting)]
ROOM = 64 * 2**20  # bytes that a search wants to be free before it begins


# What must come out


def trials(search_dir: Path) -> dict[str, Any]:
    """All that must not depend on the machine."""
    found = load(search_dir)
    assert set(r.status for r in found.records.values()) <= FINISHED
    return {
        "trials": {
            trial_id: (
                {name: v for name, v in record.config.items()},
                record.status,
                {e: without_seconds(row) for e, row in sorted(record.history.items())},
            )
            for trial_id, record in sorted(found.records.items())
        },
        "best": best(found),
        "table": without_seconds_table(search_dir / "trials.csv"),
        "damage": found.damage,
    }


def without_seconds(row: Mapping[str, float]) -> dict[str, float]:
    """An epoch's metrics but for the time."""
    return {name: value for name, value in row.items() if name != "seconds"}


def without_seconds_table(path: Path) -> list[list[str]]:
    """trials.csv by its rows' first cells: the same trials in any order, counted once."""
    return sorted(line.split(",")[:3] for line in path.read_text().splitlines()[1:])


def best(found: Search) -> tuple[str, int]:
    """The chosen trial and its epoch, also as best.json has it."""
    said = json.loads((found.path / "best.json").read_text())
    assert found.best is not None
    assert said["trial_id"] == found.best["trial_id"]
    return said["trial_id"], said["epoch"]


def of_prepare(work: Path, out: str) -> Any:
    """Every file but for those that hold times."""
    root = work / "data" / "digits"
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in files
        if path.name != "images.tsv"
    }


def of_search(work: Path, out: str) -> Any:
    return trials(work / "results" / "digits" / "one")


def of_confirm(work: Path, out: str) -> Any:
    return out.replace(str(work), ""), of_search(work, out)


def of_retrain(work: Path, out: str) -> Any:
    folder = work / "results" / "digits" / "one"
    said = json.loads((folder / "retrain" / "metadata.json").read_text())
    said = {key: said[key] for key in said if key not in ("seconds", "created")}
    files = {p.name: p.read_bytes() for p in (folder / "retrain").glob("*.safetensors")}
    return (folder / "submission.csv").read_bytes(), files, said, out


def of_predict(work: Path, out: str) -> Any:
    return (work / "results" / "digits" / "one" / "submission.csv").read_bytes(), out


def of_export(work: Path, out: str) -> Any:
    folder = work / "results" / "digits" / "one" / "export"
    card = json.loads((folder / "model.safetensors.json").read_text())
    return (folder / "model.safetensors").read_bytes(), {**card, "created": ""}, out


def of_report(work: Path, out: str) -> Any:
    page = (work / "results" / "digits" / "one" / "report.html").read_text()
    return "\n".join(line for line in page.splitlines() if ">made " not in line.lower()), out


def of_run(work: Path, out: str) -> Any:
    score = [line for line in out.splitlines() if line.startswith("test accuracy")]
    folder = work / "results" / "digits" / "one"
    assert (folder / "report.html").stat().st_size > 10**6
    return of_search(work, out), (folder / "submission.csv").read_bytes(), score


def of_output(work: Path, out: str) -> Any:
    return out


def of_nothing(work: Path, out: str) -> Any:
    return None


def commands(work: Path) -> dict[str, Command]:
    """Every command, on the digits."""
    search_dir = str(work / "results" / "digits" / "one")
    three = ["--num-samples", "3"]
    found = [
        Command("prepare", ["prepare", "digits"], "nothing", of_prepare),
        Command("predict", ["predict", search_dir], "retrained", of_predict),
        Command("report", ["report", search_dir], "retrained", of_report),
        Command("retrain", ["retrain", search_dir], "confirmed", of_retrain),
        Command(
            "export", ["export", search_dir, "--format", "safetensors"], "retrained", of_export
        ),
        Command("reproduce", ["reproduce", search_dir, "--trial", "t0001"], "searched", of_output),
        Command("search", ["search", "digits", *SEARCH, *three], "prepared", of_search, ray=True),
        Command(
            "resume",
            ["search", "digits", *SEARCH, "--num-samples", "5", "--resume"],
            "searched",
            of_search,
            ray=True,
        ),
        Command(
            "confirm",
            ["confirm", search_dir, "--folds", "2", "--top", "1"],
            "searched",
            of_confirm,
            ray=True,
        ),
        Command("run", ["run", "digits", *SEARCH, *three], "nothing", of_run, ray=True),
        Command("check", ["check", "digits", *SEARCH], "prepared", of_nothing, ray=True),
    ]
    return {command.name: command for command in found}


# The attacks


def kill(stage: Stage, command: Command, rng: random.Random) -> None:
    """kill -9 of the driver at a random moment, once or twice, then the same command."""
    stage.restore(command.before)
    marks = []
    ended = None
    for _ in range(rng.choice([1, 1, 2])):
        moment = rng.uniform(0, stage.wanted[command.name][2])
        ended, mark = again(stage, command, moment, ended)
        marks.append(mark)
        if ended.code == 0:
            break
        if rng.random() < 0.5:  # else the next one begins while processes of the dead one end
            assert left(mark, GONE) == [], "processes that outlive a killed command"
    assert ended is not None
    done = ended if ended.code == 0 else stage.finish(command)
    for mark in marks:
        assert left(mark, GONE) == [], "processes that outlive a killed command"
    stage.check(command, done)


def again(stage: Stage, command: Command, moment: float, before: Ended | None) -> tuple[Ended, str]:
    """The command killed at a moment; on a search that has begun, with --resume."""
    ended, mark = stage.run(command, moment)
    if ended.code == 2 and "add --resume" in ended.error:
        words = [*command.words, "--resume"]
        return stage.run(Command(command.name, words, "", command.result), moment)
    assert ended.code in (None, 0), ended.err
    return ended, mark


def small(stage: Stage, command: Command, rng: random.Random) -> None:
    """A disk without room for all that the command writes; then there is more."""
    _, _, _, written = stage.wanted[command.name]
    stage.restore(command.before)
    size = used(stage.work) + int(rng.uniform(0, max(written, 2**17)))
    with small_disk(stage.work, "1g"):
        stage.restore(command.before)
        remount(stage.work, max(size, used(stage.work)))
        ended, mark = stage.run(command)
        remount(stage.work, 2**30)
        conclude(stage, command, ended, mark)


def filled(stage: Stage, command: Command, rng: random.Random) -> None:
    """A disk that is full from a random moment on, for a while."""
    _, _, seconds, written = stage.wanted[command.name]
    stage.restore(command.before)
    room = used(stage.work) + 2 * written + ROOM + 2**24
    with small_disk(stage.work, f"{room}"):
        stage.restore(command.before)
        running = stage.start([*command.words, *stage.folders_of(command)])
        time.sleep(rng.uniform(0, seconds))
        hog = fill(stage.work)
        time.sleep(rng.uniform(0.2, 6 if command.ray else 2))
        hog.unlink()
        conclude(stage, command, running.wait(None), running.mark)


def conclude(stage: Stage, command: Command, ended: Ended, mark: str) -> None:
    """After a full disk: one line and then the same command, or nothing to be seen of it."""
    assert left(mark, GONE) == [], "processes that outlive their command"
    assert "Traceback" not in ended.err, ended.err
    if ended.code != 0:
        assert ended.code == 1, f"exit {ended.code}: {ended.err}"
        line = ended.error
        assert str(stage.work) in line, line
        assert "No space left" in line or " needs " in line, line
        assert "make room" in line, line
        ended = stage.finish(command)
    stage.check(command, ended)


def remount(folder: Path, size: int) -> None:
    """Give the small disk another size in bytes."""
    options = f"remount,size={-(-size // 4096) * 4096}"
    subprocess.run(["mount", "-o", options, str(folder)], check=True)


ATTACKS: dict[str, Callable[[Stage, Command, random.Random], None]] = {
    "kill": kill,
    "filled": filled,
    "small": small,
}


def attack(stage: Stage, name: str, kind: str, seed: int) -> None:
    """One case. AssertionError with its name where something was lost."""
    command = commands(stage.work)[name]
    stage.undisturbed(command)
    try:
        ATTACKS[kind](stage, command, random.Random(f"{name} {kind} {seed}"))
    except AssertionError as error:
        raise AssertionError(f"{name} {kind} {seed}: {error}") from None


@contextlib.contextmanager
def stage_for(above: Path) -> Iterator[Stage]:
    """A stage with the states that the commands start from, made without Ray."""
    work = above / "work"
    work.mkdir()
    rays = Path(tempfile.mkdtemp(prefix="rt-", dir="/tmp"))
    stage = Stage(above, work, rays)
    try:
        stage.keep("nothing")
        make_states(stage)
        yield stage
    finally:
        shutil.rmtree(rays, ignore_errors=True)


def make_states(stage: Stage) -> None:
    """Prepared, searched, confirmed, retrained."""
    threads = torch.get_num_threads()
    changes: tuple[dict[str, Any], ...] = ({}, {"lr": 0.1, "width": 12}, {"seed": 1})
    search_dir = digits_search(stage.work, changes)
    shutil.move(stage.work / "results", stage.above / "aside")
    stage.keep("prepared")
    shutil.move(stage.above / "aside", stage.work / "results")
    stage.keep("searched")
    confirm_here(search_dir, load_study("digits"), Plan(("t0001", "t0000"), 2, 1))
    stage.keep("confirmed")
    torch.set_num_threads(threads)
    stage.finish(commands(stage.work)["retrain"])
    stage.keep("retrained")
