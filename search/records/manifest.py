"""search.json: what is written down of a search when it begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.files import read_json
from search.records.folder import SEARCH_JSON
from search.records.versions import git_commit, now, version_of, versions

if TYPE_CHECKING:
    from data_prep.prepared import PreparedData
    from search.study.study import Study


def describe_search(
    study: Study,
    data: PreparedData,
    search_dir: Path,
    *,
    space: dict[str, Any],
    overrides: dict[str, Any],
    command: Sequence[str],
    storage: str | None,
) -> dict[str, Any]:
    """The content of search.json at the start of a session; the first session's start is kept."""
    before = read_json(search_dir / SEARCH_JSON) if (search_dir / SEARCH_JSON).exists() else {}
    counts = data.split["split"].value_counts()
    return {
        "task": study.task,
        "name": search_dir.name,
        "status": "running",
        "metric": study.metric,
        "mode": study.mode,
        "num_samples": study.num_samples,
        "num_epochs": study.num_epochs,
        "seed": study.seed,
        "sampler": study.sampler if isinstance(study.sampler, str) else repr(study.sampler),
        "scheduler": study.scheduler,
        "grace_period": study.grace_period,
        "reduction_factor": study.reduction_factor,
        "space": space,
        "baseline": dataclasses.asdict(study.config),
        "data": {
            "root": str(data.root.resolve()),
            "fingerprint": data.fingerprint,
            "classes": list(data.classes),
            "train": int(counts.get("train", 0)),
            "valid": int(counts.get("valid", 0)),
        },
        "reference": study.reference,
        "caveat": study.caveat,
        "versions": {**versions(), "resnet-tune": version_of("resnet-tune")},
        "git_commit": git_commit(),
        "command": list(command),
        "overrides": overrides,
        "storage": None if "@" in (storage or "") else storage,  # no passwords
        "start": before.get("start", now()),
        "end": None,
        "sessions": [*before.get("sessions", []), now()],
    }
