"""Before and while trials run: the features of a frozen backbone, computed once for all of them.

A thread of the driver computes, or lets the cluster do so. The first trial starts as soon as the
evaluation features and the first view are there; one that is ahead waits.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from data_prep.workers import usable_cores
from search import console
from search.cluster.node_data import NodeData
from search.running.feature_costs import costs, missing, notes
from search.running.feature_workers import FindWork, Means, Work, computing, worker_options
from search.study.feature_choices import feature_configs
from search.study.study import Study
from search.text import duration
from trainables.features.source import settle_precision
from trainables.features.store import EVAL, FeatureStore, Part

FIRST = {EVAL, Part("view", 0)}  # parts without which no trial gets through its first epoch
NOTICE_PERIOD = 30.0  # seconds between two lines about what goes on beside the search
POLL_SECONDS = 0.2
PATIENCE = 30.0  # seconds for the thread to put down its work


@contextmanager
def shared_features(
    study: Study, root: Path, data: NodeData, stop: Callable[[], bool]
) -> Iterator[Study]:
    """While active, what the study's trials need exists or is being computed.

    Gives the study with the precision that the features have. A task whose module has no
    `feature_work` needs none. `root` is the prepared data on the driver's node, `data` on any.
    `stop` tells that the search is to end. Raises ValueError when the backbone or the disk space
    cannot be had.
    """
    find: FindWork | None = getattr(study.trainables, "feature_work", None)
    if find is None:
        yield study
        return
    study = dataclasses.replace(study, config=settle_precision(study.config))
    configs = feature_configs(study)
    for note in notes(study, root):
        console.notice(note)
    work = find(root, *configs)
    places = worker_options()
    one_node = len({place["scheduling_strategy"].node_id for place in places}) <= 1
    if not work or (one_node and not missing(work)):
        yield study
        return
    with computing(find, data, configs, work, places) as means:
        for line in costs(missing(work), study.config, means):
            console.notice(line)
        computer = Computer(work, means)
        computer.start()
        try:
            for _ in console.track(computer.first(stop), computer.num_first, "features"):
                pass
            yield study
        finally:
            computer.stop()


class Computer(threading.Thread):
    """Computes the work in its order, in the background."""

    def __init__(self, work: Work, means: Means) -> None:
        super().__init__(daemon=True, name="features")
        self.work = work
        self.means = means
        self.first_parts = num_first(work)
        self.num_first = sum(len(store.images) for store, _ in missing(work[: self.first_parts]))
        self.ready = threading.Event()
        self.done: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self.begun = self.told = time.monotonic()
        self.count = 0
        self.ended = threading.Event()
        self.error: Exception | None = None

    def first(self, stop: Callable[[], bool]) -> Iterator[int]:
        """Yields once for each image passed until trials can start. Raises what went wrong."""
        while not stop():
            try:
                count = self.done.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if count is None:
                break
            yield from range(count)
        if self.error is not None:
            raise self.error

    def run(self) -> None:
        """Compute; the thread's whole life."""
        torch.set_num_threads(usable_cores())
        try:
            with ExitStack() as held:
                locks: dict[FeatureStore, FileLock] = {}
                for number, (store, part) in enumerate(self.work):
                    self.one(store, part, locks, held)
                    if self.ended.is_set():
                        return
                    self.means.publish(number)
                    self.tell(number)
        except Exception as error:  # whatever it is, the driver must learn of it
            self.error = error
            if self.ready.is_set() and not self.ended.is_set():
                console.notice(f"features: {error}; trials compute what they still need")
        finally:
            self.done.put(None)

    def one(
        self, store: FeatureStore, part: Part, locks: dict[FeatureStore, FileLock], held: ExitStack
    ) -> None:
        """Compute one part, or wait until another process has done so."""
        told = False
        while store.open(part) is None and not self.ended.is_set():
            if store not in locks:
                lock = store.lock()
                try:
                    held.enter_context(lock.acquire(timeout=POLL_SECONDS))
                except Timeout:
                    if not told:
                        console.notice(f"features: {part.name} is computed by another process")
                    told = True
                    continue
                locks[store] = lock
            for count in store.fill(part, self.means.compute):
                self.count += count
                if not self.ready.is_set():
                    self.done.put(count)
                if self.ended.is_set():
                    return

    def tell(self, number: int) -> None:
        """Let trials start when they can; then, now and then, a line about what is there."""
        if number == self.first_parts - 1:
            self.ready.set()
            self.done.put(None)
        now = time.monotonic()
        images = sum(len(store.images) for store, _ in missing(self.work[number + 1 :]))
        if (
            number < self.first_parts
            or now - self.told < NOTICE_PERIOD
            or not images
            or not self.count
        ):
            return
        self.told = now
        rate = self.count / (now - self.begun)
        left = images / rate
        console.notice(
            f"features: {number + 1} of {len(self.work)} files, {rate:.0f} images/s,"
            f" {duration(left)} left"
        )

    def stop(self) -> None:
        """Put the work down; what is done stays."""
        self.ended.set()
        self.join(PATIENCE)


def num_first(work: Work) -> int:
    """How much of the work must be done before trials start: the first parts of every network.

    It ends where a first part of the labelled images is met for the last time.
    """
    labelled = work[0][0].content["pixels"]
    return 1 + max(
        number
        for number, (store, part) in enumerate(work)
        if part in FIRST and store.content["pixels"] == labelled
    )
