"""What a storage makes of the checkpoints that a ledger names: its own, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.cluster.storage import Storage
from search.records.ledger import Ledger, read_ledger
from search.running.checkpoints import GONE, begin_anew, located

NAME = "ray/t0001-a1_b2/checkpoint_000003"


def lay(root: Path, name: str = NAME) -> Path:
    """A checkpoint's folder with a file in it."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "state.pt").write_text("x")
    return folder


@pytest.mark.parametrize(
    "said",
    [
        NAME,
        f"/somewhere/else/results/t/a/{NAME}",
        f"s3://bucket/t/a/{NAME}?region=eu",
        f"../../other/{NAME}",
    ],
)
def test_the_end_of_a_path_leads_into_the_own_storage(tmp_path: Path, said: str) -> None:
    folder = lay(tmp_path)
    storage = Storage(str(tmp_path))
    assert storage.inside(said) == NAME
    assert storage.find(said) == str(folder)
    assert Storage("s3://bucket/x?region=eu").below(NAME).uri == f"s3://bucket/x/{NAME}?region=eu"


@pytest.mark.parametrize(
    "said",
    [
        None,
        "",
        ".",
        "/",
        "ray",
        "retrain",
        "ray/t0001-a1_b2",
        "ray/../checkpoint_000003",
        "ray/t0001-a1_b2/checkpoint_000003/..",
        "ray/t0001-a1_b2/../../thesis",
        "/home/x/thesis",
        f"{NAME}/",
        f"{NAME}\n",
    ],
)
def test_anything_else_is_no_checkpoint(tmp_path: Path, said: str | None) -> None:
    folder = lay(tmp_path)
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    storage = Storage(str(tmp_path))
    assert storage.inside(said) is None
    assert storage.find(said) is None
    storage.discard(said)
    assert folder.exists()
    assert thesis.exists()


@pytest.mark.parametrize("linked", ["ray", "ray/t0001-a1_b2", NAME, f"{NAME}/state.pt"])
def test_no_link_leads_out(tmp_path: Path, linked: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    folder = lay(root)
    outside.parent.mkdir(exist_ok=True)
    (root / linked).rename(outside)
    (root / linked).symlink_to(outside)
    storage = Storage(str(root))
    assert storage.find(NAME) is None
    storage.discard(NAME)
    assert outside.exists()
    assert (folder / "state.pt").read_text() == "x"


def test_folders_may_have_any_name(tmp_path: Path) -> None:
    folder = lay(tmp_path / "r?a #b%20c é")
    storage = Storage(str(tmp_path / "r?a #b%20c é"))
    assert storage.inside(str(folder)) == NAME
    assert storage.find(str(folder)) == str(folder)
    assert storage.size(NAME) == 1
    storage.discard(str(folder))
    assert not folder.exists()


def test_a_storage_that_is_itself_behind_a_link_is_used(tmp_path: Path) -> None:
    folder = lay(tmp_path / "disk")
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    storage = Storage(str(tmp_path / "link"))
    assert storage.find(NAME) == f"{tmp_path / 'link'}/{NAME}"
    storage.discard(NAME)
    assert not folder.exists()


def test_an_unfinished_trial_without_its_checkpoint_is_lost_and_begins_anew(tmp_path: Path) -> None:
    lay(tmp_path)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for number, name in ((1, NAME), (2, NAME.replace("t0001", "t0002")), (3, "/home/x/thesis")):
        trial = f"t{number:04d}"
        ledger.append("start", trial, config={}, origin="sampler")
        ledger.append("report", trial, metrics={"epoch": 1, "valid_acc": 0.5})
        ledger.append("checkpoint", trial, epoch=1, path=name)
        ledger.append("pause", trial)
    said: list[str] = []
    storage = Storage(str(tmp_path))
    begin_anew(ledger, storage, said.append)
    assert said == [f"2 of 3 unfinished trials begin anew: their checkpoints are not in {tmp_path}"]
    begin_anew(ledger, storage, said.append)
    assert len(said) == 1
    ledger.close()
    records = read_ledger(tmp_path / "ledger.jsonl")
    assert [r.status for r in records.values()] == ["paused", "lost", "lost"]
    assert records["t0002"].error == GONE
    places = [located(record, storage).checkpoint for record in records.values()]
    assert places == [f"{tmp_path}/{NAME}", None, None]
