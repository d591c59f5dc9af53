"""What each step from the notes' numbers to the submission is worth, on dogs that no step has seen.

    python -m tests.benchmarks.dogs_ladder [--quick] [--data DIR]

The shared dogs, 20 of each of 120 breeds, are split at random five times into 12 to train on, 4 to
validate on and 4 held out. For each split `dog_breed` is searched with its backbone among the knobs
(mobilenet_v2, tf_efficientnet_lite0, both joined; 20 epochs, four stored views): 32 trials by its
own sampler and scheduler (`simulator.py`, one worker). The eight best complete trials and the
baseline are run again on five folds of the 16, and what `decide` makes of them is trained on the 16
and predicts the held-out dogs: the product's own functions on a search's own folder, but for Ray.

The baseline is trial 0, the notes' numbers on the first backbone, mobilenet_v2. Each row has all
steps above it; a step that was not applied leaves the row as the one above.

                     log loss        accuracy        log loss against the row above    applied
    baseline         .761 +- .016   .765 +- .003
    search best      .687 +- .032   .802 +- .010   -.074 +- .028                      5 of 5
    confirmed        .673 +- .026   .803 +- .009   -.014 +- .011                      5 of 5
    averaged         .666 +- .024   .806 +- .009   -.006 +- .004                      5 of 5
    calibrated       .621 +- .028   .806 +- .009   -.046 +- .011                      5 of 5
    ensemble         .604 +- .025   .813 +- .010   -.016 +- .008                      3 of 5

The last row's log loss is .794 of the first's. With two stored views in place of four it was .801
(.772, .678, .678, .671, .630, .619); there the confirmation chose what the search had found best in
every split, and choosing by temperature-scaled loss (2501.19195) in its place chose the same, too,
and is no option. Errors are standard errors over the splits, those of differences of the
differences split by split.
The dogs are a subset of ImageNet: these networks
have seen many of them.

The last line is one JSON object: `rows` (name -> `log_loss`, `accuracy`, `se` of the log loss) and
`final_over_baseline`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import multiprocessing
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from search.finishing.confirm import plan_confirmation
from search.finishing.decision import decide
from search.finishing.predict import predictions_of_test
from search.finishing.recipe import Wanted
from search.finishing.retrain import retrain
from search.finishing.submission import score
from search.records.best import BASELINE
from search.records.ledger import LEDGER, METRICS, Ledger
from search.records.search import Search, load
from search.study.loading import load_study
from search.study.overrides import customise
from search.study.study import Study
from tests.benchmarks.backbones import (
    HELD_OUT,
    JOINED,
    LITE0,
    LITE0_WEIGHTS,
    MOBILENET,
    VALID,
    Heads,
    config_of,
    of_rows,
    options_of,
    prepared,
    splitter,
    told,
)
from tests.benchmarks.shared import shared_data
from tests.benchmarks.simulator import SimulatedTrial
from tests.dog_features import REAL_WEIGHTS, features_of
from tests.finished import confirm_here, describe_here, keep_outcomes_of
from trainables import dog_breed
from trainables.config import DogBreedConfig
from trainables.data import TaskData
from trainables.features.store import EVAL, MIRRORED, Part
from trainables.folds import plan_folds
from trainables.loop import TrainState, describe, fit
from trainables.outcomes import CountingEpoch

SPLITS, TRIALS, EPOCHS, VIEWS, TOP, FOLDS, PICKS = 5, 32, 20, 4, 8, 5, 20
PLAIN: dict[str, Any] = {"calibrate": False, "tta": "none"}
ROWS: dict[str, dict[str, Any]] = {
    "baseline": {"trial": BASELINE, **PLAIN},
    "search best": PLAIN,
    "confirmed": PLAIN,
    "averaged": {"calibrate": False},
    "calibrated": {},
    "ensemble": {"ensemble": PICKS},
}
UNCONFIRMED = ("baseline", "search best")


def study_of(trials: int, seed: int) -> Study:
    """`dog_breed` with its backbone among what is searched; trial 0 is on the first of them."""
    files = {MOBILENET: shared_data() / REAL_WEIGHTS, LITE0: shared_data() / LITE0_WEIGHTS}
    weights = ",".join(f"{name}:{path}" for name, path in files.items())
    return customise(
        load_study("dog_breed"),
        sets=[f"weights={weights}", f"num_views={VIEWS}"],
        ranges=[f"backbone={MOBILENET},{LITE0},{JOINED}"],
        num_samples=trials,
        num_epochs=EPOCHS,
        seed=seed,
    )


def fill_store(root: Path) -> None:
    """Let each image pass both networks by every view and look."""
    joined = dataclasses.replace(config_of(study_of(1, 0)), backbone=JOINED)
    data = dog_breed.load_data(root, joined)
    for part in (EVAL, *(Part("view", number) for number in range(VIEWS)), MIRRORED):
        for store in features_of(data.train_valid).stores:
            store.obtain(part)


class RecordedHeads(Heads):
    """As `Heads`; every trial is written down as a search does it."""

    def __init__(self, study: Study, data: TaskData) -> None:
        super().__init__(study, data)
        self.states: dict[str, TrainState] = {}
        self.counting: dict[str, CountingEpoch] = {}
        self.history: dict[str, list[dict[str, float]]] = {}

    def metrics(self, trial: SimulatedTrial) -> dict[str, float]:
        """Train one epoch more."""
        name, metric = trial.trial_id, self.study.metric
        if name not in self.running:
            config = self.config(trial)
            data = self.study.trainables.load_data(Path(), config)
            self.states[name] = self.study.trainables.start(config, data)
            self.running[name] = fit(self.states[name], data.train, data.valid, config, metric)
            self.counting[name], self.history[name] = CountingEpoch(config, metric), []
        found = next(self.running[name])
        self.counting[name].offer(found, self.states[name].outcomes)
        self.history[name].append(found)
        return found

    def write(self, folder: Path) -> None:
        """The ledger, and what completed trials made of each image."""
        ledger = Ledger(folder / LEDGER)
        ledger.append("session", num_samples=len(self.trials), pid=1)
        for number, trial in enumerate(self.trials):
            name, config = f"t{number:04d}", dataclasses.asdict(self.config(trial))
            origin = "baseline" if number == 0 else "sampler"
            ledger.append("start", name, config=config, origin=origin)
            for row in self.history.get(trial.trial_id, []):
                metrics = {key: row[key] for key in ("epoch", *METRICS) if key in row}
                facts = describe(self.states[trial.trial_id])
                ledger.append("report", name, metrics=metrics, facts=facts)
            whole = trial.epoch == self.study.num_epochs
            if whole:
                keep_outcomes_of(folder, name, self.counting[trial.trial_id])
            ledger.append("end", name, status="completed" if whole else "stopped", error=None)
        ledger.close()


def split_study(study: Study, root: Path) -> tuple[Study, dict[str, str]]:
    """The study on one random split, and the breed of each image that is held out.

    The held-out images are its test images; heads are trained on stored features alone.
    """

    @functools.cache
    def everything(backbone: str) -> TaskData:
        return dog_breed.load_data(root, dataclasses.replace(config_of(study), backbone=backbone))

    first = everything(config_of(study).backbone)
    labels = features_of(first.train_valid).labels.numpy()
    rest, out = next(splitter(HELD_OUT, study.seed).split(labels, labels))
    rest = np.sort(rest)
    train, valid = next(splitter(VALID, study.seed).split(rest, labels[rest]))

    def data_of(data_dir: Path, config: DogBreedConfig) -> TaskData:
        parts = rest[train], rest[valid]
        if config.num_folds:
            names = [str(row) for row in rest]
            plan = np.array(plan_folds(labels[rest].tolist(), names, config.num_folds))
            parts = rest[plan != config.fold], rest[plan == config.fold]
        whole = everything(config.backbone)
        return dataclasses.replace(
            whole,
            train=of_rows(whole, parts[0]),
            valid=of_rows(whole, parts[1]),
            train_valid=of_rows(whole, rest),
            test=of_rows(whole, out),
            test_ids=tuple(map(str, out)),
            valid_ids=tuple(map(str, parts[1])),
            valid_labels=tuple(labels[parts[1]].tolist()),
        )

    def start(config: DogBreedConfig, data: TaskData) -> TrainState:
        width = features_of(everything(config.backbone).train).width
        return dog_breed.start_head(config, data, width)

    module = ModuleType("dogs_of_a_split")
    module.load_data = data_of  # type: ignore[attr-defined]
    module.start = start  # type: ignore[attr-defined]
    module.merge, module.merge_key = dog_breed.merge, dog_breed.merge_key  # type: ignore[attr-defined]
    answers = {str(row): first.classes[labels[row]] for row in out}
    return dataclasses.replace(study, trainables=module), answers


def searched(study: Study, root: Path, folder: Path) -> Search:
    """A search by the product's own sampler and scheduler, confirmed on folds."""
    data = study.trainables.load_data(root, study.config)
    search = RecordedHeads(study, data)
    search.run(10**9)
    describe_here(study, root, folder, {})
    search.write(folder)
    return confirm_here(folder, study, plan_confirmation(load(folder), TOP, FOLDS, 1))


def climb(root: Path, trials: int, seed: int) -> dict[str, Any]:
    """Log loss and accuracy of each row on the held-out images of one split, by one thread."""
    torch.set_num_threads(1)
    study, answers = split_study(study_of(trials, seed), root)
    with tempfile.TemporaryDirectory() as temporary:
        found = searched(study, root, Path(temporary))
        rows: dict[str, Any] = {}
        for name, asked in ROWS.items():
            search = dataclasses.replace(found, runs=None) if name in UNCONFIRMED else found
            recipe = decide(search, study, Wanted(**asked), root)
            retrain(search, study, root, recipe=recipe)
            accuracy, loss = score(predictions_of_test(search.path, study, root), answers)
            rows[name] = {"log_loss": loss, "accuracy": accuracy}
        rows["steps"] = [dataclasses.asdict(step) for step in recipe.ladder]
        rows["seed"] = seed
    return rows


def measure(root: Path, splits: int, trials: int, jobs: int) -> Iterator[dict[str, Any]]:
    """The rows of each split."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        waiting = [pool.submit(climb, root, trials, seed) for seed in range(splits)]
        for job in waiting:
            yield job.result()


def summarise(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Print the table; the content of the JSON line."""
    print(
        "                 log loss         accuracy         log loss against the row above, applied"
    )
    rows: dict[str, Any] = {}
    before = None
    for name in ROWS:
        losses = np.array([split[name]["log_loss"] for split in found])
        loss, accuracy = told(losses), told(np.array([s[name]["accuracy"] for s in found]))
        cells = [f"{mean:.3f} +- {error:.3f}" for mean, error in (loss, accuracy)]
        line = f"{name:14s}   {'   '.join(cells)}"
        rows[name] = {"log_loss": loss[0], "accuracy": accuracy[0], "se": loss[1]}
        rows[name]["accuracy_se"] = accuracy[1]
        if before is not None:
            gain = told(losses - before)
            applied = sum(is_applied(split, name) for split in found)
            line += f"   {gain[0]:+.4f} +- {gain[1]:.4f}   {applied} of {len(found)}"
            rows[name] |= {
                "against_above": gain[0],
                "against_above_se": gain[1],
                "applied": applied,
            }
        print(line)
        before = losses
    ratio = rows["ensemble"]["log_loss"] / rows["baseline"]["log_loss"]
    return {"rows": rows, "final_over_baseline": round(ratio, 4)}


def is_applied(split: dict[str, Any], name: str) -> bool:
    """Whether a step was applied in a split."""
    return any(step["name"] == name and step["applied"] for step in split["steps"])


def main() -> None:
    """Print the table and, last, the JSON object."""
    options = options_of(__doc__)
    with tempfile.TemporaryDirectory() as temporary:
        root = prepared(options.data or Path(temporary))
        fill_store(root)
        splits, trials = (2, 8) if options.quick else (SPLITS, TRIALS)
        found = []
        for split in measure(root, splits, trials, options.jobs):
            found.append(split)
            print(json.dumps({k: v for k, v in split.items() if k != "steps"}), flush=True)
            for step in split["steps"]:
                print(f"split {split['seed']}: {step}", flush=True)
        print(json.dumps(summarise(found)))


if __name__ == "__main__":
    main()
