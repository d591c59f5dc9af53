"""What a backbone is worth, alone and joined: dogs that nothing has seen, after a search for each.

    python -m tests.benchmarks.backbones [--quick] [--data DIR]

The shared dogs, 20 of each of 120 breeds, are split at random five times into 12 to train on, 4 to
validate on and 4 held out. For each split and backbone the study `dog_breed` with a linear head is
searched with 32 trials by its own sampler and scheduler (`simulator.py`, one worker; trials train
for real, as far as they are let), the chosen configuration is trained once on the 16, as `retrain`
does, and predicts the held-out ones. Features of 4 views and the central crop come from the store,
which is kept with `--data`, so that each image passes each network once for all splits.

    backbone                      head       log loss        accuracy        against SGD's head
    mobilenet_v2                  SGD        .747 +- .017    .767 +- .011
                                  logistic   .799 +- .007    .758 +- .003    +.052 +- .011
    tf_efficientnet_lite0         SGD        .669 +- .028    .797 +- .008
                                  logistic   .656 +- .022    .810 +- .009    -.013 +- .015
    joined                        SGD        .590 +- .017    .814 +- .008
                                  logistic   .616 +- .015    .813 +- .009    +.026 +- .009
    mobilenet_v2 at 224 and 160   SGD        .790 +- .018    .765 +- .007
                                  logistic   .815 +- .010    .759 +- .003    +.025 +- .010

Under SGD joined is .079 +- .016 (11.9 %) below Lite0, the better single one; mobilenet_v2 .078 +-
.014 and its two sizes .121 +- .016 above it. The whole took 40 minutes beside other work.

The convex head is multinomial logistic regression (`logistic.py`): features of mean squared norm 1,
32 L2 from 1e-2 to 6e-9, twenty iterations of L-BFGS each from strong to weak, central crops, L2
chosen on the validation images. It is behind SGD's head by more than two standard errors on three
of the four and not told apart on the fourth: no option of the product. On mobilenet_v2, against
those .799: with four augmented views beside the crop .836 (+.036 +- .012; with a temperature .804
+- .024), each feature by its own deviation .804 (+.005 +- .001), a temperature .797. L2-SP, which
holds the weights near ImageNet's own rows for the breeds, had .413 +- .013 and accuracy .883 on
Lite0 in an earlier run: those rows name 90 % of a sample of these dogs right without any training,
so it is ahead by what they have seen, these images among them.

Errors are standard errors over the splits; those of differences are of the differences split by
split. The dogs are a subset of ImageNet: these networks have seen many of them.

The last line is one JSON object: `rows` (of a backbone and head `log_loss`, `accuracy`, and the
differences in log loss `against_better`, the better single network under SGD, and `against_sgd`,
the same backbone's: mean and error each) and `joined_ratio` (joined over the better single one,
log loss, SGD).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import platform
import tarfile
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import StratifiedShuffleSplit

from data_prep.dog_breed import LAYOUT
from data_prep.prepare import prepare
from data_prep.workers import usable_cores
from search.schedulers.asha import make_scheduler
from search.schedulers.searcher import AshaSearcher
from search.schedulers.whole import WholeBudget
from search.study.loading import load_study
from search.study.overrides import customise
from search.study.study import Study
from tests.benchmarks import logistic
from tests.benchmarks.shared import shared_data
from tests.benchmarks.simulator import SimulatedTrial, Simulation
from tests.dog_features import REAL_WEIGHTS, features_of
from trainables.config import DogBreedConfig
from trainables.data import TaskData
from trainables.dog_breed import load_data, start_head
from trainables.features.source import FeatureSource
from trainables.features.work import feature_work
from trainables.loop import evaluate, fit
from trainables.reporting import knobs_of

MOBILENET, LITE0 = "mobilenet_v2", "timm/tf_efficientnet_lite0"
JOINED, TWO_SIZES = f"{MOBILENET}+{LITE0}", f"{MOBILENET}+{MOBILENET}@160"
LITE0_WEIGHTS = Path("weights", "tf_efficientnet_lite0_timm_layout.safetensors")
SPLITS, TRIALS, EPOCHS, VIEWS = 5, 32, 12, 4
HEADS = ("sgd", "logistic")
HELD_OUT, VALID = 0.2, 0.25  # the second of what the first leaves


def study_of(backbone: str, trials: int, seed: int) -> Study:
    """`dog_breed` with a linear head on a backbone of the shared weights."""
    files = {MOBILENET: shared_data() / REAL_WEIGHTS, LITE0: shared_data() / LITE0_WEIGHTS}
    weights = ",".join(f"{name}:{path}" for name, path in files.items())
    sets = [f"weights={weights}", f"backbone={backbone}", "hidden=0", f"num_views={VIEWS}"]
    study = load_study("dog_breed")
    return customise(study, sets=sets, num_samples=trials, num_epochs=EPOCHS, seed=seed)


def config_of(study: Study) -> DogBreedConfig:
    """Its baseline."""
    assert isinstance(study.config, DogBreedConfig)
    return study.config


def prepared(folder: Path) -> Path:
    """The shared dogs, prepared in `folder`/dog_breed."""
    root = folder / "dog_breed"
    with (
        tempfile.TemporaryDirectory() as source,
        tarfile.open(shared_data() / "dog_kaggle_120x20_short256.tar") as archive,
    ):
        archive.extractall(source, filter="data")
        (labels,) = Path(source).rglob("labels.csv")
        prepare(LAYOUT, labels.parent, root)
    return root


def compute(root: Path, backbones: list[str]) -> None:
    """Fill the store."""
    work = feature_work(root, *(config_of(study_of(name, 1, 0)) for name in backbones))
    missing = [(store, part) for store, part in work if store.open(part) is None]
    if missing:
        calculate = missing[0][0].local()
        for store, part in missing:
            begun = time.monotonic()
            count = sum(store.fill(part, calculate))
            rate = count / (time.monotonic() - begun)
            print(f"{store.config.backbone} {part.name}: {rate:.0f} images/s", flush=True)


class Heads(Simulation):
    """A search whose trials train heads; `chosen` is the configuration that validated best."""

    def __init__(self, study: Study, data: TaskData) -> None:
        self.study, self.data = study, data
        self.running: dict[str, Iterator[dict[str, float]]] = {}
        self.looks: list[tuple[float, int, float, DogBreedConfig]] = []
        searcher = AshaSearcher(
            study.space,
            metric=study.metric,
            mode=study.mode,
            num_samples=study.num_samples,
            num_epochs=study.num_epochs,
            grace_period=study.first_rung,
            whole=WholeBudget(study.finish_presets, study.audit_share, study.seed),
            baseline=dataclasses.asdict(study.config),
            enqueue=[(point, "user") for point in study.points],
            seed=study.seed,
        )
        super().__init__(
            searcher,
            make_scheduler(searcher),
            lambda config: np.zeros(study.num_epochs),
            metric=study.metric,
            num_workers=1,
            seed=study.seed,
        )

    def config(self, trial: SimulatedTrial) -> DogBreedConfig:
        """The trial's."""
        return dataclasses.replace(config_of(self.study), **knobs_of(trial.config))

    def metrics(self, trial: SimulatedTrial) -> dict[str, float]:
        """Train one epoch more."""
        config = self.config(trial)
        if trial.trial_id not in self.running:
            state = start_head(config, self.data, features_of(self.data.train).width)
            epochs = fit(state, self.data.train, self.data.valid, config, self.study.metric)
            self.running[trial.trial_id] = epochs
        found = next(self.running[trial.trial_id])
        look = found[self.study.metric], trial.epoch, found["averaged"], config
        self.looks.append(look)
        return found

    def note(self, trial: SimulatedTrial, value: float) -> None:
        """Every look is kept by `metrics`."""

    def chosen(self) -> tuple[DogBreedConfig, int, bool]:
        """Configuration, epoch, and whether the average was the model."""
        _, epoch, averaged, config = min(self.looks, key=lambda look: look[0])
        return config, epoch, bool(averaged)


def split(root: Path, study: Study, seed: int) -> tuple[TaskData, FeatureSource]:
    """One split: what is searched and trained on, and what is held out."""
    everything = load_data(root, config_of(study))
    labels = features_of(everything.train_valid).labels.numpy()
    rest, out = next(splitter(HELD_OUT, seed).split(labels, labels))
    train, valid = next(splitter(VALID, seed).split(rest, labels[rest]))
    data = dataclasses.replace(
        everything,
        train=of_rows(everything, rest[train]),
        valid=of_rows(everything, rest[valid]),
        train_valid=of_rows(everything, rest),
    )
    return data, of_rows(everything, out)


def held_out(root: Path, backbone: str, head: str, trials: int, seed: int) -> tuple[float, float]:
    """Log loss and accuracy of one split, by one thread."""
    torch.set_num_threads(1)
    study = study_of(backbone, trials, seed)
    data, out = split(root, study, seed)
    if head == "logistic":
        found = logistic.held_out(data, out, logistic.Way())
        return found.log_loss, found.accuracy
    search = Heads(study, data)
    search.run(10**9)
    config, epochs, averaged = search.chosen()
    state = start_head(config, data, features_of(data.train).width)
    for metrics in fit(state, data.train_valid, None, config):
        if metrics["epoch"] >= epochs:
            break
    state.averaged = averaged
    metrics = evaluate(state.model, out, config)
    return metrics["valid_loss"], metrics["valid_acc"]


def splitter(share: float, seed: int) -> StratifiedShuffleSplit:
    """One split at random, the same share of each breed."""
    return StratifiedShuffleSplit(1, test_size=share, random_state=seed)


def of_rows(data: TaskData, rows: np.ndarray) -> Any:
    """A source of some of the labelled images."""
    return dataclasses.replace(features_of(data.train_valid), rows=torch.from_numpy(rows))


def measure(
    root: Path, backbones: list[str], splits: int, trials: int, jobs: int
) -> dict[tuple[str, str], np.ndarray]:
    """float64 (splits, 2): log loss and accuracy of each split, for each backbone and head."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        waiting = {
            (name, head): [
                pool.submit(held_out, root, name, head, trials, seed) for seed in range(splits)
            ]
            for name in backbones
            for head in HEADS
        }
        return {key: np.array([job.result() for job in jobs]) for key, jobs in waiting.items()}


def summarise(found: dict[tuple[str, str], np.ndarray]) -> dict[str, Any]:
    """Print a line for each backbone and head; the content of the JSON line."""
    losses = {key: values[:, 0] for key, values in found.items()}
    singles = [losses[key] for key in found if "+" not in key[0] and key[1] == "sgd"]
    better = min(singles, key=lambda each: each.mean())
    title = f"{'backbone':40s} head      log loss         accuracy "
    print(f"{title}       against the better single one   against SGD's head")
    rows = []
    for (name, head), values in found.items():
        loss, accuracy = told(values[:, 0]), told(values[:, 1])
        against = [told(values[:, 0] - other) for other in (better, losses[name, "sgd"])]
        cells = [f"{mean:.3f} +- {error:.3f}" for mean, error in (loss, accuracy)]
        cells += [f"{mean:+.3f} +- {error:.3f}" for mean, error in against]
        print(f"{name:40s} {head:9s} {'   '.join(cells)}")
        rows.append(
            {
                "backbone": name,
                "head": head,
                "log_loss": loss,
                "accuracy": accuracy,
                "against_better": against[0],
                "against_sgd": against[1],
            }
        )
    ratio = round(float(losses[JOINED, "sgd"].mean() / better.mean()), 4)
    return {"rows": rows, "joined_ratio": ratio}


def told(values: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error."""
    error = values.std(ddof=1) / np.sqrt(len(values))
    return round(float(values.mean()), 4), round(float(error), 4)


def options_of(doc: str | None) -> argparse.Namespace:
    """The options of a benchmark on the dogs' splits; prints the machine."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two splits, eight trials; indicative")
    parser.add_argument("--data", type=Path, help="keep the prepared dogs and their features here")
    parser.add_argument("--jobs", type=int, default=usable_cores(), help="splits at a time")
    options = parser.parse_args()
    print(
        f"{platform.machine()}, {usable_cores()} cores, torch {torch.__version__},"
        f" Python {platform.python_version()}"
    )
    return options


def main() -> None:
    """Print the table and, last, the JSON object."""
    options = options_of(__doc__)
    backbones = [MOBILENET, LITE0, JOINED, *([] if options.quick else [TWO_SIZES])]
    with tempfile.TemporaryDirectory() as temporary:
        root = prepared(options.data or Path(temporary))
        compute(root, backbones)
        splits, trials = (2, 8) if options.quick else (SPLITS, TRIALS)
        found = measure(root, backbones, splits, trials, options.jobs)
        print(json.dumps(summarise(found)))


if __name__ == "__main__":
    main()
