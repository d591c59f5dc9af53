"""Steps as one CUDA graph are the steps that they were captured from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.packed_folders import write_digits
from trainables import digits
from trainables.data import TaskData
from trainables.device import Machine
from trainables.loop import fit
from trainables.state import TrainState
from trainables.step import GraphedStep

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
CONFIG = dataclasses.replace(
    digits.CONFIG, device="cuda", precision="bfloat16", num_epochs=4, batch_size=100, nesterov=True
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TaskData:
    """The digits: batches of 100 and a smaller last one."""
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder)
    return digits.load_data(folder, CONFIG)


def losses(state: TrainState, data: TaskData, epochs: int) -> list[float]:
    """Training losses of the next epochs."""
    curve = fit(state, data.train, data.valid, CONFIG)
    return [next(curve)["train_loss"] for _ in range(epochs)]


def test_graph_and_kernel_by_kernel_give_the_same_losses(
    data: TaskData, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = digits.start(CONFIG, data)
    graphed = losses(state, data, 3)
    assert isinstance(state.step, GraphedStep)
    assert state.step.graph is not None
    monkeypatch.setattr(Machine, "graphs", False)
    eager = losses(digits.start(CONFIG, data), data, 3)
    assert graphed == pytest.approx(eager, rel=1e-3)
    assert graphed[-1] < graphed[0]


def test_a_training_goes_on_from_a_checkpoint_with_a_graph_of_its_own(
    data: TaskData, tmp_path: Path
) -> None:
    whole = losses(digits.start(CONFIG, data), data, 4)
    state = digits.start(CONFIG, data)
    first = losses(state, data, 2)
    state.save(tmp_path / "state.pt")
    second = losses(state, data, 1)
    state.load(tmp_path / "state.pt")  # into tensors that a graph was captured with
    assert first + losses(state, data, 2) == pytest.approx(whole, rel=1e-3)
    assert second == pytest.approx(whole[2:3], rel=1e-3)


def test_checkpoints_of_a_gpu_are_gone_on_with_on_a_cpu(data: TaskData, tmp_path: Path) -> None:
    state = digits.start(CONFIG, data)
    losses(state, data, 2)
    state.save(tmp_path / "state.pt")
    config = dataclasses.replace(CONFIG, device="cpu", precision="float32")
    other = digits.start(config, data)
    other.load(tmp_path / "state.pt")
    assert all(isinstance(group["lr"], float) for group in other.optimizer.param_groups)
    assert other.epoch == 2
