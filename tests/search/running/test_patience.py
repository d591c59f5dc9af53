"""What cannot be written now is written later, whole and once."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from search.records.ledger import Ledger, read_events
from search.running.patience import patiently, pauses
from tests.disks import fill, small_disk

FULL = OSError(errno.ENOSPC, "No space left on device")


def never() -> bool:
    return False


def test_it_is_tried_until_it_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    failures = [FULL, FULL]

    def write() -> None:
        if failures:
            raise failures.pop()

    patiently(write, "the ledger", never)
    assert not failures


def test_it_gives_up_after_a_while_and_when_it_is_told_to() -> None:
    def write() -> None:
        raise FULL

    with pytest.raises(OSError, match="No space"):
        patiently(write, "the ledger", never, longest=0.3)
    with pytest.raises(OSError, match="No space"):
        patiently(write, "the ledger", lambda: True)


def test_pauses_grow_and_end() -> None:
    assert list(pauses(lambda: True)) == []
    assert list(pauses(never, longest=0.05)) == [True]


def test_a_ledger_on_a_full_disk_waits_and_loses_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        ledger = Ledger(disk / "ledger.jsonl", lambda write: patiently(write, "ledger", never))
        ledger.append("start", "t0000", config={}, origin="baseline")
        hog = fill(disk)
        threading.Timer(1.5, hog.unlink).start()
        for epoch in range(1, 40):  # more than what is left of the last block
            metrics = {"epoch": epoch, "valid_acc": 0.5, "note": "x" * 100}
            ledger.append("report", "t0000", metrics=metrics)
        assert not hog.exists()
        ledger.close()
        epochs = [e["metrics"]["epoch"] for e in read_events(ledger.path) if e["event"] == "report"]
        assert epochs == list(range(1, 40))
        again = Ledger(ledger.path)
        assert again.damage == []
        again.close()
