"""A signal, or a reader that goes away, at any stage of a command: it ends in order, and at once.

Each command is a process as a user types it, in a process group of its own.
"""

from __future__ import annotations

import contextlib
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from data_prep.digits import LAYOUT
from data_prep.prepare import prepare
from search import load
from tests.campaign import SEARCH
from tests.commands import resnet_tune
from tests.dog_features import random_weights
from tests.finished import digits_search
from tests.search.running.test_feature_cache import dogs_download
from tests.stage import GONE, MARK, copy, left, tell_figures
from tests.toy_search import words as toy_words

SECONDS = float(os.environ.get("RESNET_TUNE_SECONDS", "1200"))
SEED = int(os.environ.get("RESNET_TUNE_SEED", "1"))
THREE = ["--num-samples", "3", "--num-epochs", "4"]
KINDS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]


class Typed:
    """A command in a process group of its own; all that it prints is read as it comes."""

    def __init__(self, words: Sequence[str], folder: Path, terminal: bool = False) -> None:
        self.mark = uuid.uuid4().hex
        self.tmp = folder / f"tmp-{self.mark[:8]}"
        self.tmp.mkdir()
        self.rays = Path(tempfile.mkdtemp(prefix="rt-", dir="/tmp"))
        places = {"TMPDIR": str(self.tmp), "RAY_TMPDIR": str(self.rays)}
        self.reader, writer = pty.openpty() if terminal else os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "search", *words],
            stdout=writer,
            stderr=writer,
            start_new_session=True,
            env={**os.environ, MARK: self.mark, **places},
        )
        os.close(writer)
        self.text = ""
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self) -> None:
        """Until the end of its output, or until the reader has had enough."""
        with contextlib.suppress(OSError):
            while not self.closing.is_set() and (part := os.read(self.reader, 65536)):
                self.text += part.decode(errors="replace")
        os.close(self.reader)

    def close(self) -> None:
        """The reader goes away."""
        self.closing.set()

    def wait_for(self, words: str, seconds: float = 600) -> None:
        """Until it has printed this."""
        end = time.monotonic() + seconds
        while words not in self.text:
            assert self.process.poll() is None, f"it ended without {words!r}: {self.text}"
            assert time.monotonic() < end, f"no {words!r} within {seconds:.0f} s: {self.text}"
            time.sleep(0.02)

    def wait_for_process(self, name: str) -> None:
        """Until it has started a process of this name."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(psutil.Error):
                children = psutil.Process(self.process.pid).children(recursive=True)
                if any(name in " ".join(child.cmdline()) for child in children):
                    return
            time.sleep(0.02)
        raise AssertionError(f"no {name} within a minute: {self.text}")

    def send(self, kind: signal.Signals, group: bool = True) -> None:
        """To all of its processes, as a terminal does it, or to the command alone."""
        os.killpg(self.process.pid, kind) if group else self.process.send_signal(kind)

    def check_end(self, code: int, seconds: float = 60) -> str:
        """That it ends so, without a traceback, a process or a file; what it printed."""
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
            found = self.process.poll()
            assert found == code, f"{found} after {seconds:.0f} s: {self.text}"
            assert left(self.mark, GONE) == [], "processes that outlive the command"
        finally:
            self.end()
        assert "Traceback" not in self.text, self.text
        assert "fault of the program" not in self.text, self.text
        assert [path.name for path in self.tmp.iterdir()] == []
        return self.text

    def end(self) -> None:
        """Nothing of it stays behind the test."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark:
                    process.kill()
        self.process.wait()
        self.thread.join(5)
        shutil.rmtree(self.rays, ignore_errors=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits, prepared; also under the toy task's name."""
    data = tmp_path_factory.mktemp("data")
    for task in ("digits", "toy"):
        prepare(LAYOUT, None, data / task)
    return data


@pytest.fixture
def retrained_copy(data: Path, tmp_path: Path) -> Path:
    """A finished search of two trials that has been retrained."""
    search_dir = digits_search(tmp_path / "finished", ({}, {"lr": 0.1}))
    resnet_tune("retrain", str(search_dir), "--data", str(data))
    return search_dir


def typed(kind: str, data: Path, folder: Path, *more: str, terminal: bool = False) -> Typed:
    """A command on the digits."""
    places = ["--data", str(data), "--results", str(folder / "results")]
    return Typed([kind, "digits", *places, *SEARCH, *THREE, *more], folder, terminal)


@pytest.mark.soak
def test_a_signal_while_ray_starts_leaves_nothing(data: Path, tmp_path: Path) -> None:
    begun = typed("search", data, tmp_path)
    begun.wait_for_process("gcs_server")
    begun.send(signal.SIGTERM)
    begun.check_end(143)


@pytest.mark.slow
def test_ctrl_c_while_retraining_keeps_the_old_model_and_says_how_to_go_on(
    data: Path, tmp_path: Path, retrained_copy: Path
) -> None:
    before = {path: path.read_bytes() for path in (retrained_copy / "retrain").iterdir()}
    long = ["--num-epochs", "1000"]
    begun = Typed(["retrain", str(retrained_copy), "--data", str(data), *long], tmp_path)
    begun.wait_for("retraining t")
    time.sleep(0.5)
    begun.send(signal.SIGINT)
    told = begun.check_end(130, 20)
    assert f"go on with: resnet-tune retrain {retrained_copy}" in told
    assert before == {path: path.read_bytes() for path in (retrained_copy / "retrain").iterdir()}
    assert not [path for path in retrained_copy.iterdir() if path.name.startswith(".retrain.p")]


@pytest.mark.slow
def test_a_closed_terminal_ends_a_search_in_order(data: Path, tmp_path: Path) -> None:
    begun = Typed(toy_words(data, tmp_path, *ENDLESS), tmp_path, terminal=True)
    begun.wait_for("running")
    begun.send(signal.SIGHUP)  # as the kernel does when
    begun.close()  # the terminal is gone: whatever is written to it is an error
    begun.check_end(129)
    assert load(tmp_path / "toy" / "one").stop_reason == "interrupted by SIGHUP"


def hanging(trace: Path) -> list[str]:
    """Of a search whose trials stop at their second epoch for ever."""
    return ["--set", "fault=hang", "--set", "fault_below=2", "--set", f"trace={trace}"]


ENDLESS = ["--num-samples", "999", "--set", "epoch_seconds=0.2", "--set", "scheduler=none"]


@pytest.mark.slow
def test_a_search_whose_reader_has_gone_ends_in_order(data: Path, tmp_path: Path) -> None:
    """As with `resnet-tune search ... 2>&1 | head`."""
    begun = Typed(toy_words(data, tmp_path, *ENDLESS), tmp_path)
    begun.wait_for("t0000")
    begun.close()
    begun.check_end(141)
    found = load(tmp_path / "toy" / "one")
    assert found.stop_reason == "interrupted by SIGPIPE"
    assert found.info.status == "interrupted"


@pytest.mark.slow
def test_a_trial_that_hangs_ends_with_ctrl_c_in_seconds(data: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    begun = Typed(toy_words(data, tmp_path, *hanging(trace)), tmp_path)
    end = time.monotonic() + 60
    while not trace.exists() or len(trace.read_text().splitlines()) < 2:
        assert time.monotonic() < end, begun.text
        time.sleep(0.05)
    time.sleep(1)
    begun.send(signal.SIGINT, group=False)
    told = begun.check_end(130, 20)
    assert "--resume" in told
    assert "lost" in set(load(tmp_path / "toy" / "one").trials["status"])


@pytest.mark.soak
def test_a_trial_that_hangs_ends_with_the_time_budget(data: Path, tmp_path: Path) -> None:
    words = toy_words(data, tmp_path, *hanging(tmp_path / "trace"), "--time-budget", "10s")
    begun = Typed(words, tmp_path)
    told = begun.check_end(0, 60)
    assert "time budget of 10 s reached" in told


# The matrix


@pytest.fixture(scope="module")
def dogs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A download of made-up dogs, prepared, and random weights."""
    folder = tmp_path_factory.mktemp("dogs")
    source = dogs_download(folder / "download")
    resnet_tune("prepare", "dog_breed", "--source", str(source), "--data", str(folder / "data"))
    random_weights(folder / "mobilenet.pt")
    return folder


def in_features(dogs: Path, folder: Path) -> Typed:
    """A search that computes features for a while."""
    copy(dogs / "data", folder / "data")
    sets = ["weights=random", "precision=float32", "image_size=320", "scheduler=none"]
    places = ["--data", str(folder / "data"), "--results", str(folder / "results")]
    words = ["search", "dog_breed", *places, "--name", "one", "--num-samples", "2"]
    words += ["--num-epochs", "6", *(word for one in sets for word in ("--set", one))]
    return Typed(words, folder)


STAGES = {  # a stage of `run`, and what is printed when it begins
    "start": "",
    "ray": "",
    "batch": "",
    "features": "features: ",
    "search": "trials compute on",
    "end of search": "t0002 completed",
    "confirm": "confirming",
    "retrain": "retraining t",
    "predict": "retrained t",
    "report": "test accuracy",
}


def case(stage: str, kind: str, rng: random.Random, data: Path, dogs: Path, folder: Path) -> None:
    """One signal, or a closed pipe, at a random moment of a stage."""
    if stage == "features":
        begun = in_features(dogs, folder)
    else:
        copy(data, folder / "data")
        begun = typed("run", folder / "data", folder, "--confirm")
    if stage == "start":
        time.sleep(rng.uniform(0.8, 4))
    elif stage == "ray":
        begun.wait_for_process("gcs_server")
        time.sleep(rng.uniform(0, 3))
    elif stage == "batch":
        begun.wait_for_process("default_worker")
        time.sleep(rng.uniform(0, 6))
    else:
        begun.wait_for(STAGES[stage])
        time.sleep(rng.uniform(0, 1))
    if begun.process.poll() is not None:
        begun.check_end(0)
        return
    before = begun.text
    if kind == "PIPE":
        begun.close()
        code = 141
    else:
        number = signal.Signals[f"SIG{kind}"]
        begun.send(number, group=rng.random() < 0.5)
        code = 128 + number
    told = begun.check_end(code, 90)[len(before) :]
    manifest = folder / "results" / "digits" / "one" / "search.json"
    if manifest.exists() and kind != "PIPE" and "report: " not in told:
        assert "resnet-tune" in told
        assert any(word in told for word in ("--resume", "retrain", "confirm", "report")), told


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 600)
def test_any_signal_at_any_stage(
    data: Path,
    dogs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begun, wrong = time.monotonic(), []
    done: Counter[str] = Counter()
    cases = [(stage, kind) for stage in STAGES for kind in ("INT", "TERM", "HUP", "USR1", "PIPE")]
    random.Random(SEED).shuffle(cases)
    for number, (stage, kind) in enumerate(cases):
        if time.monotonic() - begun > SECONDS:
            break
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            case(stage, kind, random.Random(f"{stage} {kind} {SEED}"), data, dogs, folder)
        except AssertionError as error:
            wrong.append(f"{stage} {kind}: {str(error)[:3000]}")
        done[kind] += 1
        shutil.rmtree(folder, ignore_errors=True)
    with capsys.disabled():
        tell_figures("signals", done, begun, wrong)
    assert wrong == []
