"""search.json: one model writes and reads it; older files open, damaged ones are one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from search import load
from search.files import read_json, write_json
from search.records.manifest import read_manifest, write_manifest
from tests.ledgers import make_search


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = make_search(tmp_path / "digits" / "one", trials=2)
    manifest = read_manifest(folder)
    write_manifest(folder, manifest)
    assert read_manifest(folder) == manifest
    assert manifest.data.test == 50


def test_a_file_of_the_version_before_opens_and_keeps_what_is_not_known(tmp_path: Path) -> None:
    folder = make_search(tmp_path / "digits" / "one", trials=2)
    info = read_json(folder / "search.json")
    for new in ("storage", "events", "stop_reason", "reference", "sessions"):
        del info[new]
    info |= {"cut": "time budget of 4 s reached", "caveat": None, "of_a_later_version": [1]}
    del info["data"]["test"]
    write_json(folder / "search.json", info)
    manifest = read_manifest(folder)
    assert manifest.stop_reason == "time budget of 4 s reached"
    assert (manifest.storage, manifest.events, manifest.data.test) == (None, 0, 0)
    write_manifest(folder, manifest)
    assert read_json(folder / "search.json")["of_a_later_version"] == [1]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("space", None, "space: "),
        ("mode", "up", "mode: "),
        ("num_epochs", "many", "num_epochs: "),
        ("data", {"valid": "x"}, "data.valid: "),
        ("space", {"lr": {"distribution": "{}"}}, "space.lr.distribution: "),
        ("space", {"lr": {"distribution": "not JSON"}}, "space.lr.distribution: "),
    ],
)
def test_what_cannot_be_used_is_one_line_with_the_file(
    tmp_path: Path, key: str, value: Any, reason: str
) -> None:
    folder = make_search(tmp_path / "digits" / "one", trials=1)
    info = read_json(folder / "search.json")
    write_json(folder / "search.json", {**info, key: value})
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        load(folder)
    start = f"{folder / 'search.json'} cannot be used ({reason}"
    assert str(caught.value).startswith(start)


def test_a_list_is_no_search(tmp_path: Path) -> None:
    folder = make_search(tmp_path / "digits" / "one", trials=1)
    (folder / "search.json").write_text(json.dumps([1]))
    with pytest.raises(ValueError, match=r"^[^\n]+search.json cannot be used \(it: "):
        load(folder)


def test_a_ledger_that_lost_its_end_is_told(tmp_path: Path) -> None:
    folder = make_search(tmp_path / "digits" / "one", trials=2)
    path = folder / "ledger.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    ended = read_manifest(folder).model_copy(update={"events": len(lines)})
    write_manifest(folder, ended)
    assert load(folder).damage == ()
    path.write_text("".join(lines[:-2]))
    (fault,) = load(folder).damage
    assert fault.startswith(f"{path}: it ends with line {len(lines) - 2}, and had {len(lines)}")
