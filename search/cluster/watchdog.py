"""Ends what a private Ray leaves when its driver is killed: a small process that waits for that.

Ray's own processes take one to two minutes to notice, and its agents sometimes never do (measured
with Ray 2.60). Run as a script, so that it imports nothing but psutil.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

GRACE = 3.0  # seconds for Ray to end by itself
WELL = b"."  # what a driver says that ends in order


@contextmanager
def watched(session: str) -> Iterator[None]:
    """Where this process is killed in the block, the processes of that Ray session end too.

    `session` is the folder of Ray's session.
    """
    dog = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), session],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what a terminal sends to the driver's group is not for it
    )
    try:
        yield
    finally:
        with contextlib.suppress(BrokenPipeError):  # somebody has ended it
            dog.communicate(WELL)


def processes_of(session: str) -> list[psutil.Process]:
    """Those that write to a file of the session's folder, as all of Ray's do to their logs.

    Command lines do not tell: workers and agents change theirs. Who reads a log is left alone.
    """
    inside = session + os.sep
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # gone, or somebody else's
            files = (file for file in process.open_files() if file.path.startswith(inside))
            if any(getattr(file, "mode", "a") != "r" for file in files):  # Linux alone tells it
                found.append(process)
    return found


def main() -> None:
    """Wait for the driver's end; if it says nothing, it was killed."""
    if sys.stdin.buffer.read(len(WELL)):
        return
    time.sleep(GRACE)
    for process in processes_of(sys.argv[1]):
        with contextlib.suppress(psutil.Error):
            process.kill()


if __name__ == "__main__":
    main()
