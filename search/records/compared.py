"""The best trial against the others on the same images: by how much it leads, how surely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.records.outcomes import Outcomes
from search.records.paired import Difference, mean_and_error, paired

METRICS = ("valid_loss", "valid_acc")


@dataclass(frozen=True)
class Compared:
    """The best trial with another one."""

    trial_id: str
    by: dict[str, Difference]
    """Metric -> by how much the best is better by it."""

    def described(self) -> dict[str, object]:
        """For best.json."""
        each = {
            name: {"better_by": difference.mean, "standard_error": difference.error}
            for name, difference in self.by.items()
        }
        return {"trial_id": self.trial_id, **each}


@dataclass(frozen=True)
class Comparison:
    """The best trial with all others of which the images are known, best first."""

    best: str
    metric: str
    images: int
    error: float
    """Standard error of the best trial's own score."""
    others: tuple[Compared, ...]

    @property
    def alike(self) -> list[str]:
        """The trials that these images do not tell from the best."""
        return [other.trial_id for other in self.others if not other.by[self.metric].told]

    def other(self, trial_id: str) -> Compared | None:
        """One of them."""
        return next((other for other in self.others if other.trial_id == trial_id), None)

    def described(self, baseline: str) -> dict[str, object]:
        """For best.json."""
        against = self.other(baseline)
        return {
            "images": self.images,
            "standard_error": self.error,
            "runner_up": self.others[0].described() if self.others else None,
            "baseline": against.described() if against else None,
            "not_told_apart": self.alike,
        }


def compare(
    best: str, metric: str, order: Sequence[str], outcomes: Mapping[str, Outcomes]
) -> Comparison | None:
    """The trial `best` against the others in `order`; None where nothing is known of its images.

    Trials of which nothing is known, or something of another number of images, are left out.
    """
    own = outcomes.get(best)
    if own is None or not own.losses:
        return None
    known = [outcomes[name] for name in order if name != best and name in outcomes]
    same = [other for other in known if len(other.losses) == len(own.losses)]
    others = [
        Compared(o.trial_id, {name: paired(own.scores(name), o.scores(name)) for name in METRICS})
        for o in same
    ]
    error = mean_and_error(own.scores(metric)).error
    return Comparison(best, metric, len(own.losses), error, tuple(others))
