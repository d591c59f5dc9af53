"""The results of `noisy_search.py`: a file of JSON lines, and the table of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.noisy_problems import ALL, FAMILIES

SHOWN = (1, 5, 10, 20, 40, 60)
OURS = "project"
LAST, PRODUCT = "last", "product"
MEAN = "mean"


@dataclass(frozen=True)
class Row:
    """One search: by each rule of choice the true regret after each of SHOWN trainings."""

    family: str
    task: str
    seed: int
    method: str
    regret: dict[str, list[float]]
    trials: int
    seconds: float

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What makes it this row."""
        return self.family, self.task, self.seed, self.method


def read_rows(path: Path | None) -> list[Row]:
    """The rows of a results file; a line that a cut run left torn is passed over."""
    rows = []
    lines = path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []
    for line in lines:
        try:
            rows.append(Row(**json.loads(line)))
        except (json.JSONDecodeError, TypeError):
            continue
    return rows


def append(path: Path | None, row: Row) -> None:
    """Add a row to the results file, on a line of its own."""
    if path:
        with path.open("a+", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")


Cells = dict[tuple[str, str, int], np.ndarray]


def rule_of(method: str) -> str:
    """Which rule of choice a method's figures are by."""
    return PRODUCT if method.startswith(OURS) else LAST


def cells(rows: Iterable[Row], method: str) -> Cells:
    """A method's regrets (budgets,) by family, task and seed."""
    rule = rule_of(method)
    return {r.key[:3]: np.array(r.regret[rule]) for r in rows if r.method == method}


def families_of(found: Cells) -> dict[str, np.ndarray]:
    """Each family's regrets (runs, budgets)."""
    by_family = {name: [v for key, v in found.items() if key[0] == name] for name in ALL}
    return {name: np.array(regrets) for name, regrets in by_family.items() if regrets}


def means(found: Cells) -> dict[str, np.ndarray]:
    """Each family's mean regret (budgets,), and the mean of the families."""
    by_family = {name: regrets.mean(0) for name, regrets in families_of(found).items()}
    noisy = [mean for name, mean in by_family.items() if name in FAMILIES]
    return {**by_family, **({MEAN: np.mean(noisy, axis=0)} if noisy else {})}


def errors(found: Cells) -> np.ndarray:
    """The standard error (budgets,) of the mean of the families, over runs."""
    families = families_of(found)
    many = [families[name] for name in FAMILIES if len(families.get(name, ())) > 1]
    if not many:
        return np.full(len(SHOWN), np.nan)
    variance = np.sum([r.var(0, ddof=1) / len(r) for r in many], axis=0)
    return np.asarray(np.sqrt(variance) / len(many))


def ratio(project: Cells, rival: Cells) -> dict[str, np.ndarray]:
    """The project's mean regret over a rival's, on the runs that both have done."""
    both = project.keys() & rival.keys()
    if not both:
        return {}
    theirs = means({key: rival[key] for key in both})
    return {k: v / theirs[k] for k, v in means({key: project[key] for key in both}).items()}


def print_table(rows: list[Row]) -> dict[str, Any]:
    """Each method's regret by family and the project's ratio to it; the ratio to the best rival."""
    found = {method: cells(rows, method) for method in dict.fromkeys(row.method for row in rows)}
    best: dict[str, np.ndarray] = {}
    for method, own in found.items():
        ratios = {} if method == OURS else ratio(found.get(OURS, {}), own)
        for name, mean in means(own).items():
            runs = sum(key[0] in ((*FAMILIES,) if name == MEAN else (name,)) for key in own)
            line = f"{method:26s}{name:13s}{cells_of(mean, 6, 3)} {runs:5d}"
            if name in ratios:
                line += "   " + cells_of(ratios[name], 5, 2)
                if not method.startswith(OURS):
                    best[name] = np.maximum(best.get(name, -np.inf), ratios[name])
            print(line)
        print(f"{'':26s}{'+-':13s}{cells_of(errors(own), 6, 3)}")
    regret = {
        method: by_budget(means(own)[MEAN]) for method, own in found.items() if MEAN in means(own)
    }
    return {
        "regret": regret,
        "ratio_best_rival": {name: by_budget(values) for name, values in best.items()},
    }


def cells_of(values: np.ndarray, width: int, digits: int) -> str:
    """Figures of a line of the table."""
    return " ".join(f"{value:{width}.{digits}f}" for value in values)


def by_budget(values: np.ndarray) -> dict[str, float]:
    """Figures of the JSON object."""
    return {str(b): round(float(value), 4) for b, value in zip(SHOWN, values, strict=True)}
