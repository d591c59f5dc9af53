"""The best configurations and the baseline run again, on folds or under other seeds.

A search with a list in place of a sampler, in `<search>/confirm/`: it has a ledger, is resumed by
the same command and runs on a cluster as every search. What it shows: `records/confirmed.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from data_prep.prepared import PreparedData
from search.errors import UsageError, UserError
from search.finishing.choice import baseline_config, trial_config
from search.records.best import BASELINE
from search.records.compared import compare
from search.records.folder import CONFIRM, SEARCH_JSON
from search.records.ledger import TrialRecord
from search.records.outcomes import read_outcomes
from search.records.runs import Plan, runs_of
from search.records.sealed import told
from search.records.search import Search
from search.running.options import Listed, Options
from search.running.session import recorded_storage, run_search
from search.schedulers.listed import Point
from search.study.study import Study

MOST = 10  # configurations besides the baseline
UNKNOWN = 5  # of them, where it is not known which of them the images tell apart
FOLDS = 5  # of 3 to 10, five are the usual compromise of cost and bias
START = 10.0  # seconds until Ray runs the first trial


def can_confirm(study: Study) -> bool:
    """Whether the task's trials can be given other folds: where its data are ours to load."""
    return hasattr(study.trainables, "load_data")


def plan_confirmation(found: Search, top: int | None, folds: int, seeds: int) -> Plan:
    """What to run again. `top` None: as many as the images do not tell from the best.

    Raises UserError where there is nothing to compare, UsageError for more folds than images.
    """
    images = found.info.data.train + found.info.data.valid
    if folds > max(images, 1):
        raise UsageError(f"--folds {folds}: there are {images} labelled images")
    order = [s.record.trial_id for s in found.ranking if s.record.status == "completed"]
    others = [trial_id for trial_id in order if trial_id != BASELINE]
    if not others:
        damage = "".join(f"; {fault}" for fault in told(found.damage))
        raise UserError(
            f"nothing to confirm in {found.path}: no trial but the baseline ran its full"
            f" budget{damage}"
        )
    best = others[:top] if top else alike(found, order)
    return Plan((*best, *([BASELINE] if BASELINE in order else [])), folds, seeds)


def alike(found: Search, order: list[str]) -> list[str]:
    """The best trials that the images do not tell apart, without the baseline; one at least."""
    compared = compare(order[0], found.metric, order, found.outcomes)
    near = order[:UNKNOWN] if compared is None else [order[0], *compared.alike]
    others = [trial_id for trial_id in near if trial_id != BASELINE]
    return others[:MOST] or [next(trial_id for trial_id in order if trial_id != BASELINE)]


def forecast(found: Search, plan: Plan) -> float:
    """Seconds that all runs take at most, one after the other, by the trials' own times."""
    data = found.info.data
    share = (data.train + data.valid) * (1 - 1 / plan.folds) if plan.folds > 1 else data.train
    each = sum(found.records[trial_id].seconds for trial_id in plan.trials)
    return START + each * len(plan.runs) * share / max(data.train, 1)


def confirm(
    found: Search, study: Study, data: PreparedData, plan: Plan, options: Options
) -> Search:
    """Run what of the plan has not been run; the search of the runs. As `run_search` raises."""
    folder = found.path / CONFIRM
    folds = plan.folds if plan.folds > 1 else 0  # what features are needed
    own = dataclasses.replace(baseline_config(found, study), num_folds=folds)
    points = list_points(found, study, plan)
    again = dataclasses.replace(
        study,
        config=own,
        metric="valid_acc" if found.metric == "valid_acc" else "valid_loss",
        space={},
        sampler="random",
        scheduler="none",
        points_to_evaluate=(),
        num_samples=len(points),
    )

    def dropped(records: Mapping[str, TrialRecord], stage: int) -> set[str]:
        outcomes = read_outcomes(folder, [])
        runs = runs_of(plan, found.metric, found.mode, records, outcomes)
        return {*runs.dropped(stage), *runs.failed}

    said = {"trials": list(plan.trials), "folds": plan.folds, "seeds": plan.seeds}
    options = dataclasses.replace(
        options,
        storage=options.storage or recorded_storage(found.path),
        resume=(folder / SEARCH_JSON).exists(),
        listed=Listed(points, dropped),
        no_trial_batch=True,
        overrides={"confirm": said},
    )
    return run_search(again, data, folder, options)


def list_points(found: Search, study: Study, plan: Plan) -> list[Point]:
    """Every run of the plan, one fold of all configurations after the other."""
    configs = {
        trial_id: dataclasses.asdict(trial_config(found, study, trial_id, found.info.num_epochs))
        for trial_id in plan.trials
    }
    return [
        Point(
            plan.name(trial_id, run),
            plan.config(configs[trial_id], run),
            trial_id,
            stage,
        )
        for stage, run in enumerate(plan.runs)
        for trial_id in plan.trials
    ]


def is_done(found: Search, plan: Plan) -> bool:
    """Whether this very plan has been run to its end."""
    return found.confirmed is not None and found.confirmed.plan == plan
