"""Kill -9 while an ensemble is retrained or a model exported: the same command completes.

The processes are forked from one that has imported all; tests/search/finishing/test_confirm.py
kills a confirmation.
"""

from __future__ import annotations

import multiprocessing
import random
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from search.cli import guarded
from search.finishing.predict import predictions_of_test
from search.finishing.retrained import load_models
from search.records.search import load
from search.study.loading import load_study
from tests.commands import resnet_tune

STUDY = load_study("digits")
RETRAIN = ("--ensemble", "6")
EXPORT = ("--format", "torchscript")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.search.finishing.test_kills", "search.finished"])


def quietly(words: Sequence[str]) -> None:
    """A command in a process of its own."""
    with open("/dev/null", "w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        sys.exit(guarded(list(words), debug=False))


def run_for(seconds: float | None, *words: str) -> float:
    """Run a command, killed after so many seconds unless it has ended; how long it ran."""
    process = CONTEXT.Process(target=quietly, args=(words,))
    begun = time.monotonic()
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    assert seconds is not None or process.exitcode == 0
    return time.monotonic() - begun


def litter(search_dir: Path) -> list[str]:
    """What a dead process left half done."""
    names = [path.name for path in search_dir.rglob(".*")]
    return sorted(name for name in names if name.startswith(".retrain.") or name.endswith(".part"))


@pytest.fixture(scope="module")
def whole(confirmed_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The search after an undisturbed retraining and export, and how long the first took."""
    copy = Path(shutil.copytree(confirmed_digits, tmp_path_factory.mktemp("whole") / "one"))
    run_for(None, "retrain", str(copy), *RETRAIN)
    (copy / "submission.csv").unlink()
    seconds = run_for(None, "retrain", str(copy), *RETRAIN)
    resnet_tune("export", str(copy), *EXPORT)
    return copy, seconds


def check_kills(confirmed: Path, whole: tuple[Path, float], folder: Path, kills: int) -> None:
    """So many kills of each command at random moments, one upon the other, then left to end."""
    wanted, seconds = whole
    rng = random.Random(kills)
    copy = Path(shutil.copytree(confirmed, folder / "one"))
    root = Path(load(copy).info.data.root)
    for _ in range(kills):
        run_for(rng.uniform(0, seconds), "retrain", str(copy), *RETRAIN)
        if (copy / "retrain").exists():
            assert len(load_models(copy, STUDY, root)) > 1
    resnet_tune("retrain", str(copy), *RETRAIN)
    assert (copy / "submission.csv").read_bytes() == (wanted / "submission.csv").read_bytes()
    one, other = (predictions_of_test(path, STUDY, root) for path in (copy, wanted))
    assert np.array_equal(one.probabilities, other.probabilities)
    for _ in range(kills):
        run_for(rng.uniform(0, seconds), "export", str(copy), *EXPORT)
    resnet_tune("export", str(copy), *EXPORT)
    assert {path.name for path in (copy / "export").iterdir()} == {"model.pt", "model.pt.json"}
    assert litter(copy) == [".retrain.lock"]


@pytest.mark.slow
def test_after_kill_9_the_same_command_completes_with_the_same_result(
    confirmed_digits: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    check_kills(confirmed_digits, whole, tmp_path, 5)


@pytest.mark.soak
def test_kill_9_at_many_moments(
    confirmed_digits: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    check_kills(confirmed_digits, whole, tmp_path, 40)
