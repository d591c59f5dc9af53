"""A private Ray where the machine gives little, and clusters that are not there: one line each."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from search.cluster.connection import connected
from tests.commands import RAY_WARNS

pytestmark = RAY_WARNS


def test_a_dead_address_is_told_with_where_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ConnectionError, match="check or unset RAY_ADDRESS$"), connected(None):
        pass
    with pytest.raises(ConnectionError, match="check --address, or leave it out$"):
        with connected("127.0.0.1:2"):
            pass


def test_a_folder_with_too_long_a_name_for_sockets_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 110)
    folder.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    told = (
        f"look at {re.escape(str(folder))}.*, or name another folder, not too long, by RAY_TMPDIR"
    )
    with pytest.raises(ConnectionError, match=f"^Ray cannot be started here .*{told}$") as caught:
        with connected(None):
            pass
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_trials_get_the_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        with connected(None) as cluster:
            assert cluster.resources["CPU"] == 1
    finally:
        os.sched_setaffinity(0, before)
