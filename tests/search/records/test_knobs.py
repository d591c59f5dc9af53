"""The searched knobs as search.json describes them."""

from __future__ import annotations

import pytest

from search.records.knobs import edge, searched_knobs
from search.records.manifest import KnobEntry
from search.study.space import describe_space
from tests.search.study.test_space import SPACE


@pytest.mark.parametrize(
    ("name", "value", "side"),
    [
        ("lr", 1e-3, "low"),
        ("lr", 0.99, "high"),
        ("lr", 0.0, "low"),
        ("lr", 0.03, None),
        ("lr_period", 2, "low"),
        ("lr_period", 19, None),
        ("lr_period", 20, "high"),
        ("batch_size", 32, "low"),
        ("batch_size", 64, None),
        ("schedule", "step", None),
    ],
)
def test_edges(name: str, value: object, side: str | None) -> None:
    space = {name: KnobEntry(**entry) for name, entry in describe_space(SPACE).items()}
    knobs = searched_knobs(space)
    assert edge(knobs[name], value) == side
