"""How long a person waits: the trial table of 10,000 trials, the report of 5,000 x 20 epochs.

    python -m tests.benchmarks.review [--quick]

`trials_10k_seconds` is a whole process of `resnet-tune trials`, imports included (the median of
three), on a ledger of 10,000 trials x 20 epochs; `report_5k_seconds` likewise of `resnet-tune
report` (one run), `report_mb` its page in megabytes, `open_seconds` until chromium has drawn
every figure (null without chromium). --quick uses a tenth of the trials and is indicative.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from tests.ledgers import make_search

ROOT = Path(__file__).parents[2]
FATES = (0.9, 0.04, 0.03, 0.02, 0.01)  # most trials run in full: the largest ledger


def timed(*arguments: str) -> float:
    """Seconds that one `resnet-tune` command takes as a process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    begun = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "search", *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        env=environment,
    )
    return time.monotonic() - begun


def opening(report: Path) -> float | None:
    """Seconds until chromium has drawn the page; None where there is none."""
    try:
        from tests.browser import CHROMIUM, opened
    except ImportError:
        return None
    if CHROMIUM is None:
        return None
    with opened(report) as found:
        return found.seconds


def main() -> None:
    """Measure, print a small table, and the figures as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    share = 10 if parser.parse_args().quick else 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "digits"
        many = make_search(folder / "many", trials=10_000 // share, epochs=20, chances=FATES)
        half = make_search(folder / "half", trials=5_000 // share, epochs=20, chances=FATES)
        report = folder / "report.html"
        trials_seconds = statistics.median(timed("trials", str(many)) for _ in range(3))
        report_seconds = timed("report", str(half), "--out", str(report))
        figures = {
            "trials_10k_seconds": round(trials_seconds, 2),
            "report_5k_seconds": round(report_seconds, 2),
            "report_mb": round(report.stat().st_size / 1e6, 2),
            "open_seconds": None if (seconds := opening(report)) is None else round(seconds, 2),
        }
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, pandas {version('pandas')}, plotly {version('plotly')}")
    print(f"trials: {10_000 // share:,} x 20 epochs; report: {5_000 // share:,} x 20 epochs")
    for key, value in figures.items():
        print(f"{key:20} {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
