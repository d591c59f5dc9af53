"""How many trials share a GPU, with made-up memory probes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.cluster.gpu_packing import CONTEXT, MARGIN, share, trials_per_gpu
from search.cluster.resources import Node

GIB = 2**30


@pytest.mark.parametrize(
    ("trial", "gpus", "count"),
    [
        (3 * GIB, [24 * GIB], 5),  # 3 x 1.15 + 0.59 GiB each
        (3 * GIB, [80 * GIB, 24 * GIB], 5),  # the smaller GPU decides
        (10 * GIB, [16 * GIB], 1),
        (GIB // 10, [80 * GIB], 8),  # never more than eight
    ],
)
def test_as_many_trials_as_fit_on_the_smallest_gpu(trial: int, gpus: list[int], count: int) -> None:
    assert trials_per_gpu(trial, gpus) == count


def test_a_trial_larger_than_a_gpu_is_refused() -> None:
    with pytest.raises(ValueError, match=r"needs 12\.1 GiB of GPU memory, the smallest GPU has 8"):
        trials_per_gpu(10 * GIB, [8 * GIB])


@given(trial=st.integers(1, 20 * GIB), gpu=st.integers(24 * GIB, 192 * GIB))
def test_what_is_packed_fits_in_memory_and_in_rays_count(trial: int, gpu: int) -> None:
    count = trials_per_gpu(trial, [gpu])
    part = share(count)
    assert count * (trial * MARGIN + CONTEXT) <= gpu
    assert Node("a", "a", {"CPU": 64, "GPU": 1}).trials({"CPU": 1, "GPU": part}) >= count
    assert part * count <= 1
