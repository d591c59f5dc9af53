"""Where a command of the program is run again and again, and what comes of it is compared.

A command runs in a process forked from one that has imported everything, in a session of its own,
with its output in files, and with folders for temporary files that must be empty in the end. All
commands work in the same folder, restored before each case, so that their results compare byte for
byte.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from search.cli import guarded

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["tests.stage", "search.finished", "search.commands", "search.running.session"]
)
MARK = "RESNET_TUNE_CAMPAIGN"  # in the environment of all that a command starts
GONE = 30.0  # seconds after which no process of a dead command may be left


@dataclass(frozen=True)
class Ended:
    """How a command ended; `code` is None where it was killed."""

    code: int | None
    out: str
    err: str
    seconds: float

    @property
    def error(self) -> str:
        """Its one line of complaint, empty without one."""
        found = [line for line in self.err.splitlines() if "error: " in line]
        assert len(found) <= 1, self.err
        return found[0] if found else ""


@dataclass(frozen=True)
class Command:
    """A command in a folder with `data` and `results`."""

    name: str
    words: Sequence[str]
    before: str
    """The state that it starts from."""
    result: Callable[[Path, str], Any]
    """What must come out, of the folder and of what it printed."""
    ray: bool = False
    """Whether it starts a Ray of its own."""


def bound_by_permissions() -> None:
    """Even as root: this process gives up what makes permissions mean nothing to it (Linux)."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 bits
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.capget(header, sets) == 0
    for number in range(3):
        sets[number] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, sets) == 0


def run_here(
    words: Sequence[str], logs: Path, variables: Mapping[str, str], bound: bool = False
) -> None:
    """The command, in the forked process; `bound`: by permissions."""
    os.setsid()
    if bound:
        bound_by_permissions()
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(logs / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(variables)
    tempfile.tempdir = None  # what the variables say counts
    sys.stdout = open(1, "w", buffering=1, closefd=False)
    sys.stderr = open(2, "w", buffering=1, closefd=False)
    sys.argv = ["resnet-tune", *words]
    code = guarded(list(words), debug=False)
    sys.stdout.flush()
    os._exit(code)


@dataclass
class Running:
    """A command at work."""

    process: Any
    logs: Path
    mark: str
    begun: float

    def wait(self, seconds: float | None) -> Ended:
        """Its end; after so many seconds it is killed."""
        self.process.join(seconds)
        killed = self.process.exitcode is None
        if killed:
            self.process.kill()
            self.process.join()
        told = {name: (self.logs / name).read_text(errors="replace") for name in ("out", "err")}
        code = None if killed else self.process.exitcode
        return Ended(code, told["out"], told["err"], time.monotonic() - self.begun)


@dataclass
class Stage:
    """The folder that commands work in, states to restore it to, and what is right."""

    above: Path
    """Not on the disk that is filled."""
    work: Path
    rays: Path
    """Of Ray's own files; its sockets need a short path."""
    wanted: dict[str, tuple[Any, set[str], float, int]] = field(default_factory=dict)
    """Command -> what came out of an undisturbed run, its files, seconds and bytes written."""

    @property
    def folders(self) -> list[str]:
        """What commands are told of it."""
        return ["--data", str(self.work / "data"), "--results", str(self.work / "results")]

    def keep(self, state: str) -> None:
        """Remember the folder as it is now."""
        copy(self.work, self.above / "states" / state)

    def restore(self, state: str) -> None:
        """Have the folder as it was then."""
        for path in self.work.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in (self.above / "states" / state).iterdir():
            copy(path, self.work / path.name)
        (self.work / "tmp").mkdir()

    def start(self, words: Sequence[str], bound: bool = False) -> Running:
        """Begin a command; `bound`: by permissions, also as root."""
        mark = uuid.uuid4().hex
        logs = self.above / "logs" / mark
        logs.mkdir(parents=True)
        variables = {MARK: mark, "TMPDIR": str(self.work / "tmp"), "RAY_TMPDIR": str(self.rays)}
        process = CONTEXT.Process(target=run_here, args=(list(words), logs, variables, bound))
        begun = time.monotonic()
        process.start()
        return Running(process, logs, mark, begun)

    def run(self, command: Command, seconds: float | None = None) -> tuple[Ended, str]:
        """The command to its end, or killed; also the mark of its processes."""
        running = self.start([*command.words, *self.folders_of(command)])
        return running.wait(seconds), running.mark

    def folders_of(self, command: Command) -> list[str]:
        """The folders that a command takes."""
        if command.name == "report":
            return []
        every = self.folders
        return every[:2] if command.name == "prepare" else every

    def finish(self, command: Command) -> Ended:
        """The same command again, with --resume where it is told to add that."""
        ended, mark = self.run(command)
        if ended.code == 2 and "add --resume" in ended.error:
            again = Command(command.name, [*command.words, "--resume"], "", command.result)
            ended, mark = self.run(again)
        assert ended.code == 0, f"{command.name}: exit {ended.code}: {ended.err}"
        assert left(mark, GONE) == [], "processes that outlive their command"
        return ended

    def undisturbed(self, command: Command) -> None:
        """Find out what is right."""
        if command.name in self.wanted:
            return
        self.restore(command.before)
        size = used(self.work)
        ended = self.finish(command)
        result = command.result(self.work, ended.out)
        written = max(0, used(self.work) - size)
        self.wanted[command.name] = (result, names(self.work), ended.seconds, written)

    def check(self, command: Command, ended: Ended) -> None:
        """It came to what an undisturbed run comes to, and left nothing else."""
        result, files, _, _ = self.wanted[command.name]
        assert command.result(self.work, ended.out) == result
        assert names(self.work) == files


def copy(source: Path, target: Path) -> None:
    """A folder with its links among each other, or a file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def used(folder: Path) -> int:
    """Bytes of a folder."""
    told = subprocess.run(["du", "-sk", str(folder)], capture_output=True, text=True, check=True)
    return int(told.stdout.split()[0]) * 1024


def names(folder: Path) -> set[str]:
    """Its files but for those of Ray Tune and TensorBoard, which each session has of its own."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    return {name for name in found if not {"ray", "tensorboard"} & set(name.split("/")[:-1])}


def left(mark: str, seconds: float = 0.0) -> list[str]:
    """What still runs of a command's processes after so long a time at most."""
    end = time.monotonic() + seconds
    while True:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == mark and process.status() != "zombie":
                    found.append(" ".join(process.cmdline())[:200])
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.2)


def tell_figures(what: str, done: Counter[str], begun: float, wrong: Sequence[str]) -> None:
    """A line about a campaign that began at that time.monotonic(): how often what, for how long."""
    told = ", ".join(f"{name} {count}" for name, count in done.items())
    minutes = (time.monotonic() - begun) / 60
    sys.stdout.write(
        f"\n{what}: {done.total()} cases, {minutes:.1f} min ({told}), {len(wrong)} wrong\n"
    )
    for one in wrong:  # an assertion shows the beginning of the first
        sys.stdout.write(f"\n{one}\n")
