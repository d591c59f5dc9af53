"""A search's folder copied, moved, renamed and tampered with: real searches on Ray, resumed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_prep.digits import LAYOUT
from data_prep.prepare import prepare
from search import Search, load
from search.records.statuses import UNFINISHED
from search.running.checkpoints import GONE
from tests.commands import RAY_WARNS, resnet_tune

pytestmark = RAY_WARNS
TOY = Path(__file__).parents[1] / "toy.py"


def command(data: Path, search_dir: Path, *options: str) -> list[str]:
    """What `resnet-tune` is told to search the toy study in this folder."""
    words = ["--data", str(data), "--results", str(search_dir.parents[1])]
    words += ["--name", search_dir.name, *options]
    return ["search", str(TOY), *words]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data` and an interrupted search, some of whose trials wait at a rung."""
    home = tmp_path_factory.mktemp("home")
    prepare(LAYOUT, None, home / "data" / "toy")
    search_dir = home / "results" / "toy" / "first"
    options = ["--num-samples", "9", "--set", "epoch_seconds=0.1"]
    options += ["--set", f"trace={home / 'trace'}"]
    started = subprocess.Popen(
        [sys.executable, "-m", "search", *command(home / "data", search_dir, *options)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 180
    while len(waiting(search_dir)) < 3:
        assert started.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    started.terminate()
    assert started.wait(timeout=120) == 143
    assert load(search_dir).info.status == "interrupted"
    assert len(waiting(search_dir)) >= 3
    return home


def waiting(search_dir: Path) -> list[str]:
    """Trials that a resume would go on with, from a checkpoint."""
    if not (search_dir / "search.json").exists():
        return []
    records = load(search_dir).records.values()
    return [r.trial_id for r in records if r.status in UNFINISHED and r.checkpoint]


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def edit_ledger(search_dir: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrite the ledger as a version before, which knew no checksums, would have written it."""
    path = search_dir / "ledger.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()]
    for event in events:
        event.pop("check", None)
        change(event)
    path.write_text("".join(json.dumps(event) + "\n" for event in events))


def resume(home: Path, search_dir: Path) -> tuple[Search, str, list[int]]:
    """Go on with the search to its end: the search, what it said, where its trials began."""
    before = len((home / "trace").read_text().splitlines())
    told = resnet_tune(*command(home / "data", search_dir, "--resume"))
    lines = (home / "trace").read_text().splitlines()[before:]
    found = load(search_dir)
    assert set(found.trials["status"]) <= {"completed", "stopped"}
    assert len(found.trials) == 9
    return found, told.err, [int(line.split()[1]) for line in lines]


def test_a_copy_goes_on_and_leaves_the_original_alone(home: Path, tmp_path: Path) -> None:
    """The ledger is one of the version before, which held absolute paths: those of the original."""
    original = home / "results" / "toy" / "first"
    copy = tmp_path / "toy" / "second"
    shutil.copytree(original, copy)

    def absolute(event: dict[str, Any]) -> None:
        if event["event"] == "checkpoint":
            event["path"] = str(original / "ray" / Path(*Path(event["path"]).parts[-2:]))

    edit_ledger(copy, absolute)
    before = content(original)
    _, said, begun = resume(home, copy)
    assert content(original) == before
    assert "begin anew" not in said
    assert max(begun) > 1, "none went on from its checkpoint"


@pytest.mark.slow
def test_a_moved_search_goes_on_whatever_its_ledger_names(home: Path, tmp_path: Path) -> None:
    """One checkpoint is gone, the ledger names others outside: nothing there is read or removed."""
    search_dir = tmp_path / "another disk" / "toy" / "renamed"
    shutil.copytree(home / "results" / "toy" / "first", search_dir)
    victim = tmp_path / "thesis"
    stranger = victim / "ray" / "t0000-x" / "checkpoint_000000"
    stranger.mkdir(parents=True)
    (stranger / "state.json").write_text('{"epoch": 8}')
    gone, attacked, damaged = waiting(search_dir)[:3]
    records = load(search_dir).records
    shutil.rmtree(search_dir / str(records[gone].checkpoint))
    (search_dir / str(records[damaged].checkpoint) / "state.json").write_text('{"epo')

    def attack(event: dict[str, Any]) -> None:
        if event["event"] == "checkpoint" and event["trial"] == attacked:
            event["path"] = str(stranger if event["epoch"] > 1 else victim)

    edit_ledger(search_dir, attack)
    found, said, _ = resume(home, search_dir)
    assert (stranger / "state.json").read_text() == '{"epoch": 8}'
    assert "2 of " in said
    assert "begin anew: their checkpoints are not in" in said
    assert {r.trial_id for r in found.records.values() if GONE in r.restarts} == {gone, attacked}
    told = found.records[damaged].restarts
    assert all("CheckpointError: checkpoint" in restart for restart in told)
    assert told or found.records[damaged].status == "stopped"  # it waited, and was not promoted
    assert sorted(found.records[gone].history) == list(range(1, found.records[gone].epochs + 1))
