"""Ends what a private Ray leaves when its driver is killed: a small process that waits for that.

Ray's own processes take one to two minutes to notice, and its agents sometimes never do (measured
with Ray 2.60). The folder of the session's temporary files goes with them. Run as a script, so that
it imports nothing but psutil.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

GRACE = 3.0  # seconds for Ray to end by itself
WELL = b"."  # what a driver says that ends in order
NEVER_UP = b"!"  # and one whose Ray did not get that far

Tell = Callable[[str], None]


@contextmanager
def watched(folder: str) -> Iterator[Tell]:
    """Where this process is killed in the block, the processes of the Ray that it starts end too.

    `folder` holds their temporary files and is in their environment, as part of a path; it is
    removed then. Gives what is to be called with the folder of Ray's session once that is known.
    """
    told: list[str] = []

    def tell(session: str) -> None:
        told.append(session)
        assert dog.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # somebody has ended it
            dog.stdin.write(os.fsencode(session) + b"\n")
            dog.stdin.flush()

    dog = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what a terminal sends to the driver's group is not for it
    )
    try:
        yield tell
    finally:
        with contextlib.suppress(BrokenPipeError):
            dog.communicate(WELL if told else NEVER_UP)


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


def started_with(folder: str) -> list[psutil.Process]:
    """Those that have the folder in their environment, with all that they have started.

    Some change what is to be seen of their environment; the first two of a Ray do not.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(value.startswith(folder) for value in process.environ().values()):
                found += [process, *process.children(recursive=True)]
    return [process for process in found if process.pid != os.getpid()]


def main() -> None:
    """Wait for the driver's end; if it says nothing, it was killed."""
    folder = sys.argv[1]
    session = sys.stdin.buffer.readline()
    if session == NEVER_UP:
        doomed = started_with(folder)
    elif sys.stdin.buffer.read(len(WELL)):
        return
    else:
        time.sleep(GRACE)
        doomed = started_with(folder)
        if session:
            doomed += processes_of(os.fsdecode(session.rstrip(b"\n")))
    for process in doomed:
        with contextlib.suppress(psutil.Error):
            process.kill()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
