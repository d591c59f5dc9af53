"""A data set of one's own, with a network and a knob of its own: three small files, anywhere."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from search import load
from tests.commands import RAY_WARNS, resnet_tune
from tests.downloads import write_images

pytestmark = [pytest.mark.slow, RAY_WARNS]

DATA = '''"""Birds: class folders of images of any size, packed to 8x8."""
from data_prep.layout import Layout
LAYOUT = Layout(task="birds", image_size=8)
'''
NETWORK = '''"""What one trial on birds does: a single convolution, from scratch."""
import dataclasses
from pathlib import Path
from typing import Annotated
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn
from trainables.augment import Augmentation
from trainables.config import TrainConfig, Unit
from trainables.reporting import knobs_of, report_epochs
from trainables.small_images import load_small_images, other_images
from trainables.state import new_state

@dataclass(frozen=True)
class BirdConfig(TrainConfig):
    channels: Annotated[int, Field(ge=1), Unit("channels")] = 4
    """Channels of the one convolution."""

CONFIG = BirdConfig(num_epochs=2, batch_size=16, lr=0.05)

def load_data(data_dir, config):
    return load_small_images(data_dir, Augmentation(), config)

def images_data(pixels, shapes, data, config):
    return other_images(pixels, data, config)

def network(channels, classes):
    convolution = nn.Conv2d(3, channels, kernel_size=3, padding=1)
    pooled = [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(convolution, *pooled, nn.Linear(channels, classes))

def start(config, data):
    return new_state(lambda: network(config.channels, len(data.classes)), config)

def trainable(config, *, data_dir, checkpoint_epochs=(), checkpoint_seconds=60.0):
    knobs = dataclasses.replace(CONFIG, **knobs_of(config))
    data = load_data(Path(data_dir), knobs)
    report_epochs(
        start(knobs, data), data.train, data.valid, knobs,
        resume_from=config.get("_resume_from"), checkpoint_epochs=checkpoint_epochs,
        checkpoint_seconds=checkpoint_seconds, facts={"path": "images"},
        metric=config.get("_metric", "valid_acc"),
    )
'''
STUDY = '''"""Study `birds`: what is searched."""
from optuna.distributions import CategoricalDistribution, FloatDistribution
import birds_network
from birds_data import LAYOUT
from search.study import Study
STUDY = Study(
    task="birds",
    layout=LAYOUT,
    trainables=birds_network,
    config=birds_network.CONFIG,
    space={
        "lr": FloatDistribution(1e-3, 0.3, log=True),
        "channels": CategoricalDistribution([2, 4, 8]),
    },
    submission="label",
    num_samples=3,
)
'''
FILES = {"birds_data.py": DATA, "birds_network.py": NETWORK, "birds.py": STUDY}


def test_three_files_are_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    for name, text in FILES.items():
        (tmp_path / "mine" / name).write_text(text)
    classes = ("emu", "kiwi")
    photos = tmp_path / "photos"
    write_images(photos / "train", [f"{c}/{c[0]}{n}.png" for c in classes for n in range(30)])
    write_images(photos / "test", [f"{c}/t{c[0]}{n}.png" for c in classes for n in range(4)], 500)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # the files are on nobody's path
    task = str(tmp_path / "mine" / "birds.py")
    shown = resnet_tune("show", task).out
    assert "Channels of the one convolution." in shown
    told = resnet_tune("run", task, "--source", str(photos), "--name", "one", "--no-confirm")
    assert "60 labelled images of 2 classes: 54 train, 6 valid; 8 test images" in told.out
    found = load(Path("results/birds/one"))
    assert found.trials["status"].isin(["completed", "stopped"]).tolist() == [True] * 3
    assert set(found.trials["config/channels"]) <= {2, 4, 8}
    submission = pd.read_csv(found.path / "submission.csv")
    assert submission["id"].tolist() == [f"t{c}{n}" for c in "ek" for n in range(4)]
    right = (submission["label"].str[0] == submission["id"].str[1]).mean()
    assert f"test accuracy: {right:.4f}" in told.out
    again = resnet_tune("predict", str(found.path), "--task", task, "--out", "again.csv")
    assert f"test accuracy: {right:.4f}" in again.out
