"""What grows: a search of 5,000 trials, and 350,000 files through `prepare`.

    python -m tests.benchmarks.long_and_large [--quick] [--only trials files]

Trials: the study of `overhead.py` with the default sampler and scheduler, every trial five epochs.
After each tenth of them: seconds a trial in that tenth, and of the driver resident memory, open
files, threads, and what the search's folder and Ray's logs hold on disk. Nothing but memory and
disk may grow, and these no faster than the trials: a week of them is known from this table.

Files: 50,000 labelled and 300,000 test PNG of 32x32 pixels, as Kaggle's CIFAR-10 has them, made
here (1.5 GB of disk), prepared in a process of its own: seconds, most memory of that process and of
its children together, open files at the end, and seconds of a second call that finds all done.

The last line is one JSON object: of `trials` `seconds_last_over_second` (tenths), `memory_kb`,
`files` and `disk_kb` a trial (last over second tenth), and of `files` all figures.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
from PIL import Image

from data_prep.digits import LAYOUT
from data_prep.layout import Layout
from data_prep.prepare import prepare
from search.running.options import Options
from search.running.session import run_search
from search.study.choices import SAMPLER
from search.study.overrides import customise
from tests.benchmarks.overhead import STUDY

ROOT = Path(__file__).parents[2]
TENTHS = 10


@dataclasses.dataclass(frozen=True)
class Look:
    """At a search that runs."""

    trials: int
    seconds: float
    memory_mb: float
    files: int
    threads: int
    folder_mb: float
    logs_mb: float


def size_mb(folder: Path) -> float:
    """Of all files that are there; those that go meanwhile do not count."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            total += path.lstat().st_size if os.path.lexists(path) else 0
    return total / 1e6


def looks(folder: Path, step: int, done: threading.Event) -> Iterator[Look]:
    """One after each `step` trials that have ended, until `done`."""
    process = psutil.Process()
    begun, ended, position = time.monotonic(), 0, 0
    ledger = folder / "ledger.jsonl"
    while not done.wait(0.2):
        if not ledger.exists():
            continue
        with ledger.open("rb") as file:
            file.seek(position)
            new = file.read()
        new = new[: new.rfind(b"\n") + 1]
        position += len(new)
        before, ended = ended, ended + new.count(b'"event": "end"')
        if ended // step > before // step:
            logs = Path(ray._private.worker._global_node.get_logs_dir_path())
            memory = process.memory_info().rss / 1e6
            yield Look(
                ended,
                time.monotonic() - begun,
                memory,
                process.num_fds(),
                process.num_threads(),
                size_mb(folder),
                size_mb(logs),
            )


def trials(folder: Path, count: int) -> dict[str, Any]:
    """Run so many; the table and its summary."""
    data = prepare(LAYOUT, None, folder / "data" / "clock")
    study = customise(dataclasses.replace(STUDY, sampler=SAMPLER), num_samples=count)
    search_dir, found, done = folder / "search", [], threading.Event()

    def watch() -> None:
        for look in looks(search_dir, count // TENTHS, done):
            found.append(look)
            print(
                f"{look.trials:7} {look.seconds:8.0f} s {look.memory_mb:8.0f} MB"
                f" {look.files:5} files {look.threads:4} threads {look.folder_mb:7.1f} MB"
                f" {look.logs_mb:7.1f} MB of logs",
                flush=True,
            )

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run_search(study, data, search_dir, Options())
    finally:
        done.set()
        watcher.join()
    spans = np.diff([look.seconds for look in found]) / np.diff([look.trials for look in found])
    first, last = found[1], found[-1]
    more = last.trials - first.trials
    return {
        "count": count,
        "seconds_a_trial": [round(float(span), 4) for span in spans],
        "seconds_last_over_second": round(float(spans[-1] / spans[0]), 3),
        "memory_kb": round(1e3 * (last.memory_mb - first.memory_mb) / more, 2),
        "files": round((last.files - first.files) / more, 5),
        "disk_kb": round(1e3 * (last.folder_mb - first.folder_mb) / more, 2),
        "logs_kb": round(1e3 * (last.logs_mb - first.logs_mb) / more, 2),
    }


def write_files(folder: Path, labelled: int, unlabelled: int) -> None:
    """Kaggle's layout; no two images the same."""
    for part, count in (("train", labelled), ("test", unlabelled)):
        (folder / part).mkdir(parents=True)
        for number in range(count):
            pixels = np.full((32, 32, 3), number % 251, dtype=np.uint8)
            pixels[0, :8] = np.frombuffer(f"{part:5}{number:019}".encode(), np.uint8).reshape(8, 3)
            Image.fromarray(pixels).save(folder / part / f"{number + 1}.png", compress_level=1)
    rows = (f"{number + 1},class{number % 10}\n" for number in range(labelled))
    (folder / "trainLabels.csv").write_text("id,label\n" + "".join(rows))


def prepare_here(source: Path, root: Path) -> None:
    """In a process of its own: prepare twice; print the figures as JSON."""
    layout = Layout(task="made", image_size=32)
    process, most, done = psutil.Process(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            family = [process, *process.children(recursive=True)]
            held = 0.0
            for one in family:
                try:
                    held += one.memory_full_info().pss / 1e6
                except psutil.Error:
                    continue
            most[0] = max(most[0], held)

    watcher = threading.Thread(target=watch)
    watcher.start()
    seconds = []
    for _ in range(2):
        begun = time.perf_counter()
        data = prepare(layout, source, root)
        seconds.append(round(time.perf_counter() - begun, 1))
    done.set()
    watcher.join()
    told = {"seconds": seconds[0], "again": seconds[1], "memory_mb": round(most[0])}
    told |= {"open_files": process.num_fds(), "data_mb": round(size_mb(data.root / "packed"))}
    print(json.dumps(told))


def files(folder: Path, labelled: int, unlabelled: int) -> dict[str, Any]:
    """Make them, prepare them."""
    write_files(folder / "source", labelled, unlabelled)
    command = [sys.executable, "-m", "tests.benchmarks.long_and_large", "--prepare"]
    done = subprocess.run(
        [*command, str(folder / "source"), str(folder / "data" / "made")],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"labelled": labelled, "unlabelled": unlabelled} | told


def main() -> None:
    """Measure, and print the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a twentieth of both, indicative")
    parser.add_argument("--only", nargs="+", choices=("trials", "files"))
    parser.add_argument("--prepare", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        prepare_here(*map(Path, options.prepare))
        return
    share = 20 if options.quick else 1
    told: dict[str, Any] = {}
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as name:
        if "files" in (options.only or ["files"]):
            told["files"] = files(Path(name, "files"), 50_000 // share, 300_000 // share)
            print(told["files"], flush=True)
        if "trials" in (options.only or ["trials"]):
            told["trials"] = trials(Path(name), 5_000 // share)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
