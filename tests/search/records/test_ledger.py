"""The ledger: what is appended is what is read back, whatever a crash tears."""

from __future__ import annotations

import math
from collections.abc import Callable
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


def damaged(path: Path, change: Callable[[list[str]], list[str]]) -> tuple[list[str], list[str]]:
    """What is told of a ledger of three trials whose lines were changed, and the trials left."""
    for number in range(3):
        ledger = write_one(path, f"t{number:04d}")
        ledger.append("end", f"t{number:04d}", status="completed", error=None)
        ledger.close()
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(change(lines)))
    damage: list[str] = []
    records = read_ledger(path, damage)
    assert all(fault.startswith(f"{path}, line ") for fault in damage)
    assert "\n" not in "".join(damage)
    return [fault.rpartition(", ")[2] for fault in damage], list(records)


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        (lambda lines: lines, []),
        (
            lambda lines: [*lines[:2], lines[2].replace("0.7", "0.9"), *lines[3:]],
            ["line 3: is not as it was written"],
        ),
        (
            lambda lines: [*lines[:1], *lines[3:]],
            ["line 2: 2 lines before it missing or unreadable"],
        ),
        (
            lambda lines: [*lines[:2], "\0" * 60 + "\n", *lines[3:]],
            ["line 4: 1 line before it missing or unreadable"],
        ),
        (
            lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]],
            [
                "line 3: 1 line before it missing or unreadable",
                "line 4: stands there again or in the wrong place",
            ],
        ),
        (
            lambda lines: [*lines[:2], lines[1], *lines[2:]],
            ["line 3: stands there again or in the wrong place"],
        ),
        (
            lambda lines: [*lines[:2], lines[2].partition(', "check"')[0] + "}\n", *lines[3:]],
            ["line 3: has lost its checksum", "line 4: 1 line before it missing or unreadable"],
        ),
        (lambda lines: [*lines, '{"event": "pau'], []),  # torn by a kill
    ],
)
def test_damage_is_told_by_line_and_what_is_whole_is_used(
    tmp_path: Path, change: Callable[[list[str]], list[str]], faults: list[str]
) -> None:
    assert damaged(tmp_path / "ledger.jsonl", change) == (faults, ["t0000", "t0001", "t0002"])


def test_a_changed_line_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    damaged(path, lambda lines: [line.replace("0.7", "0.9") for line in lines])
    assert [list(record.history) for record in read_ledger(path).values()] == [[1], [1], [1]]


def test_events_of_a_trial_whose_start_is_lost_are_told(tmp_path: Path) -> None:
    faults, left = damaged(tmp_path / "ledger.jsonl", lambda lines: [*lines[:4], *lines[5:]])
    assert left == ["t0000", "t0002"]
    assert faults[0] == "line 5: 1 line before it missing or unreadable"
    assert faults[1:] == [f"line {n}: what it says of t0001 does not follow" for n in (5, 6, 7)]


@pytest.mark.parametrize(
    "event",
    [
        '{"event": "start", "trial": "../x", "time": 1, "config": {}, "origin": "sampler"}',
        '{"event": "start", "trial": ["t0001"], "time": 1, "config": {}, "origin": "sampler"}',
        '{"event": "start", "trial": "t0001", "time": 1, "config": 3, "origin": "sampler"}',
        '{"event": "report", "trial": "t0000", "metrics": {"valid_acc": 1}}',
        f'{{"event": "report", "trial": "t0000", "metrics": {{"epoch": 1, "lr": {"9" * 400}}}}}',
        '{"event": "start", "trial": "t0001", "time": 1, "config": {"lr": %s}, "origin": ""}'
        % ("9" * 400),
        '{"event": "end", "trial": "t0000", "time": 1, "status": "won"}',
        '{"event": "pause", "trial": "t0009"}',
    ],
)
def test_what_no_version_has_written_is_told_and_passed_over(tmp_path: Path, event: str) -> None:
    path = tmp_path / "ledger.jsonl"
    start = '{"event": "start", "trial": "t0000", "time": 1, "config": {}, "origin": "sampler"}'
    path.write_text(f"{start}\n{event}\n")  # without checksums, as versions before wrote them
    damage: list[str] = []
    records = read_ledger(path, damage)
    assert list(records) == ["t0000"]
    assert records["t0000"].status == "running"
    assert len(damage) == 1
    assert damage[0].startswith(f"{path}, line 2: ")


def test_half_a_character_in_a_configuration_can_be_written_to_a_table(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append("start", "t0000", config={"schedule": "\ud800x", "flip": True}, origin="sampler")
    ledger.close()
    config = read_ledger(tmp_path / "ledger.jsonl", [])["t0000"].config
    assert config == {"schedule": "\\ud800x", "flip": True}


def test_a_ledger_without_checksums_goes_on_with_them(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    write_one(path).close()
    old = [line.partition(', "check"')[0] + "}\n" for line in path.read_text().splitlines()]
    path.write_text("".join(old))
    ledger = Ledger(path)
    assert ledger.damage == []
    ledger.append("end", "t0000", status="completed", error=None)
    ledger.close()
    assert path.read_text().splitlines()[-1].endswith('"}')
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], lines[3].replace("completed", "stopped")]))
    damage: list[str] = []
    assert read_ledger(path, damage)["t0000"].status == "running"
    assert damage == [f"{path}, line 4: is not as it was written"]
