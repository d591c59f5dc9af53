"""What the report says in words and numbers: headlines, caveats, what was run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from search.files import read_json
from search.records.best import BASELINE
from search.records.knobs import edge_advice, is_active
from search.records.sealed import told
from search.records.search import Search
from search.records.statuses import shown_status
from search.review.audit import audited
from search.review.certainty import baseline_gain, how_sure
from search.review.figures.costs import epochs_saved
from search.review.importance import rungs_of
from search.review.table import search_labels
from search.text import compact, duration


def cards(search: Search) -> list[tuple[str, str, str]]:
    """The headline numbers: what, value, remark."""
    counts = Counter(shown_status(r, search.running) for r in search.records.values())
    trained = sum(record.epochs for record in search.records.values())
    seconds = sum(record.seconds for record in search.records.values())
    found = [
        (
            "trials",
            f"{len(search.records):,}",
            ", ".join(f"{n} {s}" for s, n in counts.most_common()),
        ),
        ("epochs trained", f"{trained:,}", f"{epochs_saved(search):,} saved by early stopping"),
        ("training time", duration(seconds), "all trials together"),
    ]
    if search.best is None:
        return [("best", "none yet", f"no trial has a finite {search.metric}"), *found]
    best = search.best["metrics"][search.metric]
    remark = f"{search.best['trial_id']} at epoch {search.best['epoch']}{margin(search, best)}"
    headlines = [(f"best {search.metric}", f"{best:.4f}", remark), *gain(search, best)]
    if search.confirmed is not None:
        row = search.confirmed.row
        said = f"{row.trial_id} on {search.confirmed.plan}; standard error {row.error:.4f}"
        headlines.append((f"confirmed {search.metric}", f"{row.mean:.4f}", said))
    sure = how_sure(search)
    if sure:
        assert search.comparison is not None
        count = len(search.comparison.alike)
        headlines.append(("not told from the best", f"{count}", "; ".join(sure)))
    return [*headlines, *found]


def gain(search: Search, best: float) -> list[tuple[str, str, str]]:
    """The baseline and by how much the best beats it."""
    if search.baseline is None:
        return [("baseline", "no score", f"trial {BASELINE} has no finite value")]
    value = search.baseline.value
    remark = f"the best differs by {baseline_gain(search, best)}"
    if search.best is not None and search.best["trial_id"] == BASELINE:
        remark = "no trial beats it"
    return [("baseline", f"{value:.4f}", remark)]


def margin(search: Search, accuracy: float) -> str:
    """The standard error of the best score, as far as it comes from the choice of `valid`.

    By the images themselves; an accuracy's can be told from their number alone.
    """
    images = search.info.data.valid
    if search.comparison is not None and search.metric != "valid_acc":
        count = search.comparison.images
        return f"; standard error {search.comparison.error:.3f} on {count:,} images"
    if search.metric != "valid_acc" or not images:
        return ""
    share = (accuracy * images + 1) / (images + 2)  # so that a perfect score has an error too
    error = math.sqrt(max(share * (1 - share), 0) / images)
    return f"; standard error {error:.3f} on {images:,} images"


def caveats(searches: Sequence[Search]) -> list[str]:
    """What a reader of the scores must know."""
    own = dict.fromkeys(s.info.caveat for s in searches)
    flattering = (
        "The best of many trials on the same validation images flatters itself a little;"
        " only images that took no part in the choice tell what the model is worth."
    )
    return [*(caveat for caveat in own if caveat), flattering]


def warnings(search: Search) -> list[str]:
    """What of the search is damaged, its state, and the best values at edges of their ranges."""
    found = told(search.damage)
    status = search.info.status
    if search.running:
        found.append(
            "The search is still running: this page shows what was known when it was made."
        )
    elif status != "finished":
        found.append(
            f"The search is {'unfinished' if status == 'running' else status}: more may come."
        )
    if search.best is not None:
        found += edge_advice(search.knobs, search.best["config"])
    return found


def facts(search: Search) -> dict[str, Any]:
    """What was searched, on what data, by which versions."""
    info, data = search.info, search.info.data
    rungs = ", ".join(map(str, rungs_of(search))) or "none"
    counts = {"train": data.train, "valid": data.valid, "test": data.test}
    images = ", ".join(f"{count:,} {key}" for key, count in counts.items() if count)
    pairs = {
        "task": info.task,
        "metric": f"{search.metric}, {'higher' if search.mode == 'max' else 'lower'} is better",
        "budget": f"{info.num_samples} trials of at most {info.num_epochs} epochs",
        "sampler, seed": f"{info.sampler}, {info.seed}",
        "early stopping": f"{info.scheduler}, trials compared at epochs: {rungs}",
        "audit": "; ".join(audited(search)),
        "images": f"{images} in {len(data.classes)} classes",
        "split fingerprint": data.fingerprint[:16],
        "started": clock(info.start),
        "ended": clock(info.end),
        "status": "running" if search.running else info.status,
        "versions": ", ".join(f"{k} {v}" for k, v in info.versions.items()),
        "git commit": info.git_commit or "unknown",
        "command": " ".join(info.command),
        "expected": info.reference,
    }
    space = [
        (
            name,
            knob.spec,
            f"only if {knob.parent} is {', '.join(map(str, knob.parent_values))}"
            if knob.parent
            else "",
        )
        for name, knob in search.knobs.items()
    ]
    label = search_labels([search])[0]
    return {"label": label, "pairs": {k: v for k, v in pairs.items() if v}, "space": space}


def clock(iso: str | None) -> str:
    """A time of search.json to the minute."""
    return str(iso)[:16].replace("T", " ") + " UTC" if iso else ""


def contrast(search: Search) -> list[dict[str, Any]] | None:
    """The best configuration against the baseline, searched knobs first."""
    if search.best is None:
        return None
    baseline = search.records[BASELINE].config if BASELINE in search.records else {}
    baseline = baseline or search.info.baseline
    best = search.best["config"]
    names = [*search.knobs, *(name for name in best if name not in search.knobs)]
    rows = []
    for name in names:
        used = name not in search.knobs or is_active(search.knobs, name, best)
        old, new = baseline.get(name), best.get(name)
        if name not in search.knobs and old == new:
            continue
        rows.append(
            {
                "name": name,
                "range": search.knobs[name].spec if name in search.knobs else "",
                "baseline": compact(old),
                "best": compact(new) if used else "not in use",
                "changed": used and old != new,
            }
        )
    return rows


def retrained(search: Search) -> dict[str, str] | None:
    """What retrain/metadata.json says; None before the retraining."""
    path = search.path / "retrain" / "metadata.json"
    if not path.is_file():
        return None
    metadata = read_json(path)
    shown = {
        "trial": metadata.get("trial_id"),
        "chosen": metadata.get("chosen"),
        "trained on": f"{metadata.get('images', 0):,} images of train_valid",
        "epochs": metadata.get("epochs"),
        "time": duration(float(metadata.get("seconds") or 0)),
        "members": told_members(metadata.get("members")),
        "averaged over": told_looks(metadata.get("looks")),
        "temperature": told_temperature(metadata.get("calibration")),
        "test score": metadata.get("score"),
    }
    return {key: str(value) for key, value in shown.items() if value is not None}


def told_temperature(calibration: Any) -> str | None:
    """The temperature with what it is worth, or why there is none; None where nothing is known."""
    if not isinstance(calibration, dict) or not calibration.get("images"):
        return None
    worth = (
        f"log loss lower by {calibration['gain']:.4f} +- {calibration['standard_error']:.4f}"
        f" on {calibration['images']:,} images out of fold"
    )
    if not calibration["applied"]:
        return f"none: {calibration['reason']} ({worth})"
    return f"{calibration['temperature']:.3f} ({worth})"


def told_members(members: Any) -> str | None:
    """What the prediction is averaged over; None for a single training."""
    if not isinstance(members, list) or len(members) < 2:
        return None
    return ", ".join(
        f"{m['trial_id']}" + (f" seed +{m['seed']}" if m["seed"] else "") + f" ({m['weight']:.2f})"
        for m in members
    )


def told_looks(looks: Any) -> str | None:
    """The looks at an image; None for the plain one alone."""
    return f"the image and {', '.join(looks)}" if isinstance(looks, list) and looks else None


def ladder_steps(search: Search) -> list[dict[str, Any]]:
    """What retrain/metadata.json says each step was worth; empty where it says nothing."""
    path = search.path / "retrain" / "metadata.json"
    steps = read_json(path).get("ladder") if path.is_file() else None
    return steps if isinstance(steps, list) else []
