"""Choice of device, precision and threads."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import torch

from data_prep.workers import usable_cores
from trainables.config import TrainConfig
from trainables.device import Machine, bfloat16_gain, find_device, prepare, resolve

CONFIG = TrainConfig(device="cpu")


def test_forced_precision() -> None:
    for name in ("float32", "bfloat16", "float16"):
        machine = resolve(dataclasses.replace(CONFIG, precision=name))
        assert machine.precision == getattr(torch, name)
        with machine.autocast():
            product = torch.ones(4, 4) @ torch.ones(4, 4)
        assert product.dtype == machine.precision


def test_auto_precision_is_measured_and_stays() -> None:
    machine = resolve(CONFIG)
    fast = bfloat16_gain()
    assert machine.precision == (torch.bfloat16 if fast >= 1.2 else torch.float32)
    assert resolve(CONFIG) == machine


def test_probe_leaves_no_trace() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    before = torch.get_num_threads()
    bfloat16_gain.cache_clear()
    bfloat16_gain()
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == before


def test_probe_works_in_the_middle_of_a_prediction() -> None:
    bfloat16_gain.cache_clear()
    with torch.inference_mode():
        bfloat16_gain()


def test_threads_are_those_given_but_never_more_than_cores() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert resolve(CONFIG).threads == 1
        torch.set_num_threads(usable_cores() + 3)
        machine = resolve(dataclasses.replace(CONFIG, precision="float32"))
        assert machine.threads == usable_cores()
        prepare(machine)
        assert torch.get_num_threads() == usable_cores()
    finally:
        torch.set_num_threads(before)


def test_prepare_undoes_what_another_trial_left() -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    try:
        prepare(Machine(torch.device("cpu"), torch.float32, torch.get_num_threads()))
        assert torch.zeros(1).dtype == torch.float32
        assert torch.is_grad_enabled()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)


def test_missing_device_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match="^device=cuda:63: [^\n]*use device=auto or device=cpu$"):
        find_device("cuda:63")
    assert find_device("cpu") == torch.device("cpu")
    assert find_device("auto").type in ("cuda", "mps", "cpu")


FAULTS = """
import resource, sys, torch
from trainables.device import keep_memory
if sys.argv[1] == "kept" and not keep_memory():
    sys.exit("no glibc")
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for turn in range(42):
    if turn == 2:
        before = faults()
    torch.ones(16 * 2**20)  # 64 MB
print(faults() - before)
"""


def page_faults(way: str) -> int:
    """Of forty tensors of 64 MB, one after another, once there have been two."""
    done = subprocess.run([sys.executable, "-c", FAULTS, way], capture_output=True, text=True)
    if "no glibc" in done.stderr:
        pytest.skip("the setting is a call of glibc (mallopt), and this C library is another")
    return int(done.stdout)


def test_freed_memory_is_kept_for_the_next_operation() -> None:
    assert page_faults("kept") < page_faults("given back") / 5
