"""Two commands at work on one search at once: the result is that of one of them, whole."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from data_prep.files import beside, bring_back, clear_parts, replacing
from search.finishing.retrained import load_models, unchanged
from search.study.loading import load_study
from tests.campaign import commands
from tests.stage import GONE, Command, Ended, Stage, left, tell_figures

SECONDS = float(os.environ.get("RESNET_TUNE_SECONDS", "600"))
FORK = multiprocessing.get_context("fork")
SEED = int(os.environ.get("RESNET_TUNE_SEED", "1"))


def together(
    stage: Stage, state: str, pair: list[list[str]], delay: float, names: list[str]
) -> list[Ended]:
    """Two commands, the second so many seconds after the first; how they ended."""
    stage.restore(state)
    begun = []
    for number, (words, name) in enumerate(zip(pair, names, strict=True)):
        time.sleep(delay * number)
        command = Command(name, words, "", lambda work, out: None)
        begun.append(stage.start([*words, *stage.folders_of(command)]))
    ended = [one.wait(300) for one in begun]
    for running in begun:
        assert left(running.mark, GONE) == [], "processes that outlive their command"
    for one in ended:
        assert one.code is not None, f"it hangs: {one.err}"
        assert "Traceback" not in one.err, one.err
        assert "fault of the program" not in one.err, one.err
        assert one.code == 0 or one.error, one.err
    return ended


def words_of(stage: Stage, name: str) -> list[str]:
    """A command of the campaign."""
    return list(commands(stage.work)[name].words)


def whole_model(stage: Stage) -> set[str]:
    """Which trials the model in `retrain/` is made of, once all its files fit each other."""
    search_dir = stage.work / "results" / "digits" / "one"
    load_models(search_dir, load_study("digits"), stage.work / "data" / "digits")
    said = json.loads((search_dir / "retrain" / "metadata.json").read_text())
    assert [p.name for p in search_dir.iterdir() if p.name.startswith(".retrain.")] == [
        ".retrain.lock"
    ]
    return {member["trial_id"] for member in said["members"]}


def two_retrainings(stage: Stage, delay: float) -> None:
    """Of different trials: model and submission are those of the same one."""
    retrain = words_of(stage, "retrain")
    pair = [[*retrain, "--trial", f"t000{number}"] for number in (1, 2)]
    ended = together(stage, "confirmed", pair, delay, ["retrain", "retrain"])
    assert [one.code for one in ended] == [0, 0], [one.err for one in ended]
    assert len(whole_model(stage)) == 1
    result = stage.work / "results" / "digits" / "one" / "submission.csv"
    found = result.read_bytes()
    predicted = stage.run(commands(stage.work)["predict"])[0]
    assert predicted.code == 0, predicted.err
    assert result.read_bytes() == found, "the submission is not that of the model"


def two_alike(stage: Stage, name: str, delay: float) -> None:
    """The same command twice: what one of them alone comes to."""
    command = commands(stage.work)[name]
    stage.undisturbed(command)
    ended = together(stage, command.before, [list(command.words)] * 2, delay, [name] * 2)
    assert 0 in [one.code for one in ended], [one.err for one in ended]
    for one in ended:
        if one.code == 0:
            stage.check(command, one)
        else:
            assert str(stage.work) in one.error, one.error


def side_by_side(stage: Stage, one: str, other: str, state: str, delay: float) -> None:
    """Different commands: each ends well, or is refused; then both come to what they should."""
    pair = [words_of(stage, one), words_of(stage, other)]
    ended = together(stage, state, pair, delay, [one, other])
    assert 0 in [done.code for done in ended], [done.err for done in ended]
    for name in (one, other):
        stage.finish(commands(stage.work)[name])
    whole_model(stage)


def test_what_a_living_process_writes_is_not_cleared_and_what_a_dead_one_left_is(
    tmp_path: Path,
) -> None:
    def dies() -> None:
        with replacing(tmp_path / "file"):
            os.kill(os.getpid(), signal.SIGKILL)

    dead = FORK.Process(target=dies)
    dead.start()
    dead.join()
    with replacing(tmp_path / "file") as aside:
        aside.write_text("new")
        assert len(list(tmp_path.iterdir())) == 2
        clear_parts(tmp_path, "file")
        assert list(tmp_path.iterdir()) == [aside]
    assert (tmp_path / "file").read_text() == "new"


def test_a_folder_that_is_being_replaced_is_not_put_back(tmp_path: Path) -> None:
    folder = tmp_path / "retrain"
    new, old = beside(folder)
    new.mkdir()
    old.mkdir()
    swap = threading.Timer(0.05, new.rename, [folder])  # as `whole_folder` goes on
    swap.start()
    bring_back(folder)
    swap.join()
    assert folder.exists()
    assert old.exists()
    folder.rmdir()
    bring_back(folder)  # nobody goes on
    assert folder.exists()


def test_what_was_read_while_a_model_was_replaced_is_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "retrain"
    folder.mkdir()
    read: list[int] = []

    def work() -> int:
        read.append(len(read))
        if len(read) < 3:  # another process retrains, twice
            (tmp_path / f"new{len(read)}").mkdir()
            folder.rename(tmp_path / f"old{len(read)}")
            (tmp_path / f"new{len(read)}").rename(folder)
            if len(read) == 2:
                raise ValueError("half of each")
        return read[-1]

    assert unchanged(tmp_path, work) == 2


@pytest.mark.slow
def test_two_retrainings_leave_the_model_and_the_submission_of_one(stage: Stage) -> None:
    two_retrainings(stage, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["predict", "export", "report"])
def test_two_that_write_the_same_file_leave_one_of_them(stage: Stage, name: str) -> None:
    two_alike(stage, name, 0.0)


@pytest.mark.soak
def test_of_two_searches_of_one_name_one_is_refused(stage: Stage) -> None:
    two_alike(stage, "search", 0.0)


BESIDE = [
    ("confirm", "retrain", "confirmed"),
    *(("resume", name, "retrained") for name in ("retrain", "report", "confirm")),
    *(("retrain", name, "retrained") for name in ("predict", "export", "report")),
]


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 600)
def test_two_at_once_at_many_moments(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    attacks: dict[str, Callable[[float], None]] = {
        "retrain, retrain": partial(two_retrainings, stage),
        **{
            f"{name}, {name}": partial(two_alike, stage, name)
            for name in ("predict", "export", "report", "prepare", "search", "resume", "confirm")
        },
        **{
            f"{one}, {other}": partial(side_by_side, stage, one, other, state)
            for one, other, state in BESIDE
        },
    }
    begun, wrong = time.monotonic(), []
    done: Counter[str] = Counter()
    for seed in itertools.count(SEED):
        rng = random.Random(seed)
        for name, act in attacks.items():
            if time.monotonic() - begun > SECONDS:
                break
            try:
                act(rng.choice([0.0, rng.uniform(0, 4)]))
            except AssertionError as error:
                wrong.append(f"{name} {seed}: {str(error)[:3000]}")
            done[name] += 1
        else:
            continue
        break
    with capsys.disabled():
        tell_figures("two at once", done, begun, wrong)
    assert wrong == []
