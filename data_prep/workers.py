"""Work on many files, spread over the cores that this process may use; results in order.

A small image costs more of Python's own time than of Pillow's, which threads cannot share: 20,000
PNG of 32x32 pixels were checked in 1.5 s by one thread and by two (two cores, one run each). So
many files go to processes, and few, which would wait for these to start, to threads.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import ModuleType
from typing import TypeVar

import joblib

from data_prep.images import ignore_pillow_warnings

# Files handed over at once: one by one, small images cost more to hand over.
THREAD_BATCH, PROCESS_BATCH = 16, 64
AHEAD = 4  # batches of each worker under way, which bounds what waits in memory
# Files. A process takes 0.2 s of a core to start, and such a PNG 80 us: on two cores 5,000 of them
# would break even; fewer files of larger images gain little, for threads do share Pillow's time.
PROCESSES_FROM = 8_192

T = TypeVar("T")
R = TypeVar("R")


def usable_cores() -> int:
    """Cores that this process may use: fewer under taskset, Slurm or a cgroup's limit."""
    return int(joblib.cpu_count())


def spread(work: Callable[[Sequence[T]], R], items: Sequence[T]) -> Generator[R, None, None]:
    """`work` on batches of the items, on all usable cores; results in order.

    In processes when the items are many: `work` is then a function of a module (or a `partial` of
    one), and it, the items and results are pickled. A worker holds one image at a time.
    """
    cores = usable_cores()
    if cores == 1 or len(items) < PROCESSES_FROM:
        with threads(cores) as pool:
            yield from in_order(pool, work, batches(items, THREAD_BATCH), AHEAD * cores)
        return
    try:
        with processes(cores) as workers:
            yield from in_order(workers, work, batches(items, PROCESS_BATCH), AHEAD * cores)
    except BrokenProcessPool:
        raise ChildProcessError(
            "a process that decodes images was killed, perhaps for its memory: free some, or let"
            " fewer cores work (taskset -c 0)"
        ) from None


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in runs of `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))


def in_order(
    pool: Executor, work: Callable[[Sequence[T]], R], jobs: Iterable[Sequence[T]], depth: int
) -> Iterator[R]:
    """The results of all jobs, at most `depth` of them under way or waiting."""
    waiting: deque[Future[R]] = deque()
    for job in jobs:
        with starting():
            waiting.append(pool.submit(work, job))
        if len(waiting) > depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@contextmanager
def starting() -> Iterator[None]:
    """Processes started in this block never see Ctrl-C, and do not run this one's script again.

    A process begins with the blocked signals of the thread that starts it: Ctrl-C is for this one
    alone. It would import `__main__`, which the work never needs, and a script that calls `prepare`
    may lack the guard against that.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    main = sys.modules["__main__"]
    try:
        sys.modules["__main__"] = ModuleType("__main__")
        yield
    finally:
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that, when the block ends in an error, do nothing more than they have begun."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with this block, at once when it ends in an error, or with this process.

    Not forked: this process may have threads. They all wait for the end of one pipe, which the
    kernel closes as well when this process is killed.
    """
    context = get_context("spawn")
    watched, held = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(count, context, begin, (watched,))
    try:
        yield pool
    except BaseException:
        held.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        held.close()
        watched.close()


def begin(watched: Connection) -> None:
    """Prepare a new process: quiet, and gone when the pipe ends."""
    ignore_pillow_warnings()

    def leave() -> None:
        watched.poll(None)
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()
