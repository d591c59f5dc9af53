"""search.json: what is written down of a search when a session begins and ends, and read again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from data_prep.files import from_json
from search.files import read_json, write_json
from search.records.folder import SEARCH_JSON
from search.records.versions import git_commit, now, version_of, versions
from search.text import masked

if TYPE_CHECKING:
    from data_prep.prepared import PreparedData
    from search.study.study import Study


class Part(BaseModel):
    """A part of search.json; what other versions add to it is kept."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Condition(Part):
    """When a knob exists: while `parameter` has one of the `values`."""

    parameter: str
    values: tuple[Any, ...]


class KnobEntry(Part):
    """A searched knob."""

    distribution: str
    """Optuna's JSON."""
    when: Condition | None = None

    @field_validator("distribution")
    @classmethod
    def readable(cls, text: str) -> str:
        """JSON with the distribution's `name` and `attributes`."""
        described = from_json(text)
        if not isinstance(described, dict) or not {"name", "attributes"} <= set(described):
            raise ValueError("no distribution of Optuna's")
        return text


class DataEntry(Part):
    """The prepared data: the folder, its identity, and the number of images."""

    root: str = ""
    fingerprint: str = ""
    classes: tuple[str, ...] = ()
    train: int = 0
    valid: int = 0
    test: int = 0


class Manifest(Part):
    """The content of search.json. Defaults stand for what older versions did not write."""

    task: str
    name: str = ""
    status: str = ""
    """`running`, then `finished`, `interrupted` or `failed`."""
    metric: str
    mode: Literal["min", "max"]
    num_samples: int = 0
    num_epochs: int
    seed: int | None = None
    sampler: str = ""
    scheduler: str = ""
    grace_period: int | None = None
    reduction_factor: float | None = None
    finish_presets: bool = False
    audit_share: float = 0.0
    space: dict[str, KnobEntry]
    baseline: dict[str, Any]
    data: DataEntry = Field(default_factory=DataEntry)
    reference: str = ""
    caveat: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    git_commit: str | None = None
    command: tuple[str, ...] = ()
    overrides: dict[str, Any] = Field(default_factory=dict)
    """The options of the command line that a resume takes over."""
    storage: str | None = None
    """--storage, None for the search's own folder."""
    start: str = ""
    end: str | None = None
    stop_reason: str | None = None
    """Why the last session stopped before all trials had ended, None if it did not."""
    sessions: tuple[str, ...] = ()
    events: int = 0
    """Lines of the ledger when the last session ended; fewer now: the last ones are lost."""

    @model_validator(mode="before")
    @classmethod
    def older_names(cls, content: Any) -> Any:
        """`stop_reason` under the name that it had before; null where a text is wanted."""
        if isinstance(content, dict):
            content = {"stop_reason": content.get("cut"), **content}
            texts = ("reference", "caveat", "status", "start")
            content |= {key: "" for key in texts if content.get(key) is None}
            content["overrides"] = content.get("overrides") or {}
        return content


def read_manifest(search_dir: Path) -> Manifest:
    """Read search.json. Raises ValueError, one line with the file, when it is not as it should."""
    path = search_dir / SEARCH_JSON
    try:
        return Manifest.model_validate(read_json(path))
    except ValidationError as error:
        places = [".".join(str(part) for part in item["loc"]) for item in error.errors()]
        reason = f"{places[0] or 'it'}: {error.errors()[0]['msg']}"
        raise ValueError(f"{path} cannot be used ({reason}); restore the file") from None


def write_manifest(search_dir: Path, manifest: Manifest) -> None:
    """Write search.json, whole or not at all."""
    write_json(search_dir / SEARCH_JSON, manifest.model_dump())


def describe_search(
    study: Study,
    data: PreparedData,
    search_dir: Path,
    *,
    space: dict[str, Any],
    overrides: dict[str, Any],
    command: Sequence[str],
    storage: str | None,
) -> Manifest:
    """What search.json says at the start of a session; the first session's start is kept."""
    before = read_manifest(search_dir) if (search_dir / SEARCH_JSON).exists() else None
    counts = data.split["split"].value_counts()
    return Manifest(
        task=study.task,
        name=search_dir.name,
        status="running",
        metric=study.metric,
        mode=study.mode,
        num_samples=study.num_samples,
        num_epochs=study.num_epochs,
        seed=study.seed,
        sampler=study.sampler if isinstance(study.sampler, str) else repr(study.sampler),
        scheduler=study.scheduler,
        grace_period=study.first_rung,
        reduction_factor=study.reduction_factor,
        finish_presets=study.finish_presets,
        audit_share=study.audit_share,
        space={name: KnobEntry.model_validate(entry) for name, entry in space.items()},
        baseline=dataclasses.asdict(study.config),
        data=DataEntry(
            root=str(data.root.resolve()),
            fingerprint=data.fingerprint,
            classes=data.classes,
            train=int(counts.get("train", 0)),
            valid=int(counts.get("valid", 0)),
            test=data.test_images,
        ),
        reference=study.reference,
        caveat=study.caveat,
        versions={**versions(), "resnet-tune": version_of("resnet-tune")},
        git_commit=git_commit(),
        command=tuple(command),
        overrides=overrides,
        storage=None if masked(storage or "") != (storage or "") else storage,  # no passwords
        start=before.start if before else now(),
        sessions=(*(before.sessions if before else ()), now()),
        events=before.events if before else 0,
    )
