"""How `prepare` uses all cores: 20,000 PNG of 128x128 pixels, packed as 64x64, and of 32x32.

    python -m tests.benchmarks.prepare_speed [--quick]

`ratio` is the wall time of `prepare` confined to one core over that on all usable cores, the
quickest run of three each, taken in turns; the arrays, tables and the audit are compared byte by
byte. `ratio_32` is the same for images of 32x32 pixels, where the links and tables, which one
process makes, weigh most. `seconds` and `seconds_32` are those on all cores. The images are made
here, smooth with some noise; it all needs 1.5 GB of disk. --quick: half of the images, one run
each; indicative.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.layout import Layout
from data_prep.prepare import prepare
from data_prep.workers import PROCESSES_FROM, usable_cores

ROOT = Path(__file__).parents[2]
PACKED = 64  # pixels: the largest side in the arrays
SAME = ("packed/train_valid.npy", "packed/packed.json", "split.csv", "stats.json", "audit.json")


def write_source(folder: Path, count: int, side: int) -> None:
    """Ten class folders of images, no two the same."""
    for label in range(10):
        (folder / "train" / f"class{label}").mkdir(parents=True)
    for number in range(count):
        random = np.random.default_rng(number)
        coarse = random.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        noise = random.integers(0, 8, (side, side, 3), dtype=np.uint8)
        path = folder / "train" / f"class{number % 10}" / f"{number}.png"
        Image.fromarray(np.asarray(smooth) // 2 + noise).save(path, compress_level=1)


def prepare_here(source: Path, root: Path, side: int, one_core: bool) -> None:
    """In a process of its own: prepare, and print the seconds."""
    if one_core:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    begun = time.perf_counter()
    prepare(Layout(task="made", image_size=min(side, PACKED)), source, root)
    print(time.perf_counter() - begun)


def timed(source: Path, root: Path, side: int, one_core: bool) -> float:
    """Seconds of `prepare`."""
    arguments = [str(source), str(root), str(side), *(["--one-core"] if one_core else [])]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.prepare_speed", "--prepare", *arguments],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    return float(done.stdout)


def compared(folder: Path, count: int, side: int, runs: int) -> tuple[float, float]:
    """Seconds on one core and on all of them. Raises AssertionError when the bytes differ."""
    write_source(folder / "source", count, side)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for run in range(runs):
        roots = [folder / f"{name}{run}" for name in ("one", "all")]
        for root, one_core in zip(roots, (True, False), strict=True):
            seconds[one_core].append(timed(folder / "source", root, side, one_core))
        for name in SAME:
            one, many = ((root / name).read_bytes() for root in roots)
            assert one == many, f"{name} differs"
        for root in roots:
            shutil.rmtree(root)
    return min(seconds[True]), min(seconds[False])


def main() -> None:
    """Measure, print a small table, and the figures as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--prepare", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--one-core", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.prepare:
        source, root, side = arguments.prepare
        prepare_here(Path(source), Path(root), int(side), arguments.one_core)
        return
    count, runs = (10_000, 1) if arguments.quick else (20_000, 3)
    assert count >= PROCESSES_FROM
    machine = f"{platform.machine()}, {usable_cores()} cores, Python {platform.python_version()}"
    print(f"{machine}, Pillow {version('pillow')}, numpy {version('numpy')}")
    print(f"{'PNG':>16} {'one core':>9} {'all cores':>9} {'ratio':>6}")
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        for side, suffix in ((128, ""), (32, "_32")):
            one, every = compared(Path(name) / str(side), count, side, runs)
            print(f"{count:>8,} {side:>3}x{side:<3} {one:7.2f} s {every:7.2f} s {one / every:6.2f}")
            figures[f"ratio{suffix}"] = round(one / every, 2)
            figures[f"seconds{suffix}"] = round(every, 2)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
