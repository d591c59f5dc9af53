"""The ledger: what is appended is what is read back, whatever a crash tears."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from search.records.ledger import Ledger, read_ledger
from search.records.statuses import end_status


def write_one(
    path: Path, trial_id: str = "t0000", values: tuple[float, ...] = (0.5, 0.7)
) -> Ledger:
    ledger = Ledger(path)
    ledger.append("start", trial_id, config={"lr": 0.1}, origin="baseline")
    for epoch, value in enumerate(values, start=1):
        metrics = {"epoch": epoch, "valid_acc": value, "seconds": 2.0}
        ledger.append("report", trial_id, metrics=metrics)
    return ledger


def test_records_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = write_one(path)
    ledger.append("checkpoint", "t0000", epoch=2, path="c2")
    ledger.append("end", "t0000", status="stopped", error=None)
    ledger.close()
    again = read_ledger(path)
    assert again == ledger.records
    record = again["t0000"]
    assert (record.status, record.epochs, record.seconds) == ("stopped", 2, 4.0)
    assert (record.checkpoint, record.checkpoint_epoch, record.origin) == ("c2", 2, "baseline")
    assert record.best_epoch("valid_acc", "max") == 2
    assert record.best_epoch("valid_acc", "min") == 1


@pytest.mark.parametrize("cut", range(2, 60, 7))
def test_torn_last_line_is_passed_over_and_appending_goes_on(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "ledger.jsonl"
    write_one(path).close()
    path.write_bytes(path.read_bytes()[:-cut])
    ledger = Ledger(path)
    assert list(ledger.records["t0000"].history) == [1]
    ledger.append("report", "t0000", metrics={"epoch": 2, "valid_acc": 0.9})
    ledger.close()
    assert read_ledger(path)["t0000"].history[2] == {"valid_acc": 0.9}


def test_a_repeated_epoch_counts_once_and_the_last_wins(tmp_path: Path) -> None:
    ledger = write_one(tmp_path / "ledger.jsonl")
    ledger.append("start", "t0000", config={"lr": 0.1}, origin="baseline")
    ledger.append("report", "t0000", metrics={"epoch": 2, "valid_acc": 0.8, "seconds": 3.0})
    ledger.close()
    record = read_ledger(tmp_path / "ledger.jsonl")["t0000"]
    assert record.history[2]["valid_acc"] == 0.8
    assert record.seconds == 5.0
    assert record.status == "running"


def test_end_status(tmp_path: Path) -> None:
    ledger = write_one(tmp_path / "a.jsonl")
    ledger.close()
    record = ledger.records["t0000"]
    assert end_status(record, num_epochs=2, metric="valid_acc") == "completed"
    assert end_status(record, num_epochs=3, metric="valid_acc") == "stopped"
    ledger = write_one(tmp_path / "b.jsonl", values=(0.5, math.nan))
    ledger.close()
    bad = ledger.records["t0000"]
    assert end_status(bad, num_epochs=2, metric="valid_acc") == "diverged"
    assert bad.best_epoch("valid_acc", "max") == 1


def test_garbage_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    write_one(path).close()
    path.write_bytes(b'\xff\xfe garbage\n[1, 2]\n{"no": "event"}\n' + path.read_bytes())
    assert read_ledger(path)["t0000"].epochs == 2
