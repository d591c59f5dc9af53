"""LCBench's learning curves, from YAHPO Gym's surrogate (Pfisterer et al. 2022, Apache-2.0).

52-epoch curves of the validation accuracy (in percent) of small neural nets with seven
hyperparameters on 34 OpenML tasks (Zimmer et al., Auto-PyTorch Tabular, 2021).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from optuna.distributions import FloatDistribution, IntDistribution

from search.samplers.encoding import Encoding
from search.study.space import Space

EPOCHS = 52
REFERENCE_CONFIGS = 20_000
VAL_ACCURACY = 1  # column of the model's output
SPACE: Space = {  # in the order of the model's inputs
    "batch_size": IntDistribution(16, 512, log=True),
    "learning_rate": FloatDistribution(1e-4, 0.1, log=True),
    "momentum": FloatDistribution(0.1, 0.99),
    "weight_decay": FloatDistribution(1e-5, 0.1),
    "num_layers": IntDistribution(1, 5),
    "max_units": IntDistribution(64, 1024, log=True),
    "max_dropout": FloatDistribution(0.0, 1.0),
}


@dataclass(frozen=True)
class Reference:
    """Final-epoch accuracy of 20,000 random configurations of one task."""

    best: float
    median: float


class LCBench:
    """The surrogate; `curve(task, config)` takes about a millisecond."""

    def __init__(self, folder: Path) -> None:
        """Load `model.onnx`, `encoding.json` and `config_space.json` from the folder."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
        encoding = json.loads((folder / "encoding.json").read_text())
        self.codes: dict[str, int] = encoding["OpenML_task_id"]

    def predict(self, task: str, rows: np.ndarray) -> np.ndarray:
        """Accuracy (percent) for rows of epoch and the seven hyperparameters."""
        codes = np.full((len(rows), 1), self.codes[task], np.int32)
        inputs = {"x_cat": codes, "x_cont": rows.astype(np.float32)}
        output: np.ndarray = self.session.run(None, inputs)[0]
        return output[:, VAL_ACCURACY].astype(np.float64)

    def curve(self, task: str, config: Mapping[str, Any]) -> np.ndarray:
        """Accuracy (percent) after epochs 1 to 52."""
        row = [float(config[name]) for name in SPACE]
        return self.predict(task, np.array([[e, *row] for e in range(1, EPOCHS + 1)]))

    def reference(self, task: str) -> Reference:
        """Best and median final accuracy of 20,000 configurations drawn from the space."""
        encoding = Encoding(SPACE)
        points = encoding.draw(REFERENCE_CONFIGS, np.random.default_rng(20_000))
        configs = [encoding.config(point) for point in points]
        rows = np.array([[EPOCHS, *config.values()] for config in configs], dtype=np.float64)
        values = self.predict(task, rows)
        return Reference(float(values.max()), float(np.median(values)))


def tasks(folder: Path) -> list[str]:
    """The 34 OpenML task ids."""
    space = json.loads((folder / "config_space.json").read_text())
    return [str(choice) for choice in space["hyperparameters"][0]["choices"]]


def references(folder: Path) -> dict[str, Reference]:
    """The reference of every task; computed once, kept in the user's cache folder."""
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()[:12]
    cache = home / "resnet-tune" / f"lcbench-{digest}-{REFERENCE_CONFIGS}.json"
    if not cache.exists():
        bench = LCBench(folder)
        found = {task: asdict(bench.reference(task)) for task in tasks(folder)}
        cache.parent.mkdir(parents=True, exist_ok=True)
        aside = cache.with_suffix(f".{os.getpid()}")
        aside.write_text(json.dumps(found))
        os.replace(aside, cache)
    return {task: Reference(**entry) for task, entry in json.loads(cache.read_text()).items()}
