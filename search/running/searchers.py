"""What Ray asks for trials: fed with the ledger's and with those of earlier searches, or a list."""

from __future__ import annotations

import dataclasses
from typing import Any

from search.cluster.environment import Place
from search.cluster.resources import trial_slots
from search.records.ledger import Ledger
from search.running.checkpoints import located
from search.running.options import Options
from search.running.retries import Retries
from search.running.warm_start import warm_start
from search.schedulers.listed import ListSearcher
from search.schedulers.searcher import AshaSearcher
from search.schedulers.whole import WholeBudget
from search.study.study import Study


def make_searcher(
    study: Study, options: Options, place: Place, ledger: Ledger, retries: Retries
) -> AshaSearcher:
    """The searcher of one session."""

    def last_checkpoint(trial_id: str) -> str | None:
        if trial_id in retries.unusable:
            retries.unusable.remove(trial_id)
            ledger.append("checkpoint", trial_id, epoch=0, path=None)
        record = ledger.records.get(trial_id)
        return place.storage.find(record.checkpoint) if record else None

    common: dict[str, Any] = {
        "metric": study.metric,
        "mode": study.mode,
        "num_epochs": study.num_epochs,
        "past": [located(record, place.storage) for record in ledger.records.values()],
        "max_concurrent": options.max_concurrent,
        "slots": trial_slots(place.resources),
        "last_checkpoint": last_checkpoint,
        "judge": retries,
    }
    listed = options.listed
    if listed is not None:
        return ListSearcher(
            listed.points, lambda stage: listed.dropped(ledger.records, stage), **common
        )
    warm, enqueue = warm_start(options.warm_start, study)
    return AshaSearcher(
        study.space,
        num_samples=study.num_samples,
        scheduler=study.scheduler,
        grace_period=study.first_rung,
        reduction_factor=study.reduction_factor,
        whole=WholeBudget(study.finish_presets, study.audit_share, study.seed),
        baseline=dataclasses.asdict(study.config),
        seed=study.seed,
        sampler=study.sampler,
        warm=warm,
        enqueue=[*((point, "user") for point in study.points), *enqueue],
        **common,
    )
