"""A folder for commands to work in, for all tests of this folder: it takes a while to make."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.campaign import stage_for
from tests.stage import Stage


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Where the commands work."""
    with stage_for(tmp_path_factory.mktemp("stage")) as made:
        yield made
