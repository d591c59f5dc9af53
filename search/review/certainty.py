"""How sure the best trial's lead is, in words: for tables and reports."""

from __future__ import annotations

from search.records.best import BASELINE
from search.records.confirmed import Row
from search.records.search import Search

NAMED = 5  # trials in a line


def how_sure(search: Search) -> list[str]:
    """The lead over the runner-up with its standard error, and whom the images do not tell apart.

    Nothing where the images of the best trial are not known, or there is no other trial.
    """
    comparison = search.comparison
    if comparison is None or not comparison.others:
        return []
    runner_up = comparison.others[0]
    first, *rest = sorted(runner_up.by, key=lambda name: name != search.metric)
    also = "; ".join(f"{name} {runner_up.by[name]}" for name in rest)
    text = (
        f"{comparison.best} by {first}: {runner_up.by[first]} than {runner_up.trial_id}"
        f" (paired, {comparison.images:,} images; {also})"
    )
    return [text, told_apart(comparison.alike, comparison.best)]


def told_apart(alike: list[str], best: str) -> str:
    """Which trials might as well be the best."""
    if not alike:
        return f"these images tell {best} from all others by two standard errors"
    more = f" and {len(alike) - NAMED} more" if len(alike) > NAMED else ""
    return f"these images do not tell {best} from {', '.join(alike[:NAMED])}{more}"


def confirmed_lines(search: Search) -> list[str]:
    """Each configuration that was run again, best first, and which was chosen by what rule."""
    confirmed = search.confirmed
    if confirmed is None:
        return ["not confirmed: the runs on folds have not ended"] if search.runs else []
    heads = "search value, mean +- standard error of the runs, optimism of the search"
    lines = [f"confirmed on {confirmed.plan} ({heads}, lead of the best):"]
    lines += [f"  {confirmed_line(row, search.mode)}" for row in confirmed.rows]
    lines += [f"  {trial_id} left out: a run failed" for trial_id in confirmed.failed]
    return [*lines, f"chosen {confirmed.chosen}: {confirmed.rule}"]


def confirmed_line(row: Row, mode: str) -> str:
    """One configuration that was run again."""
    behind = "" if row.behind is None else f"; {row.behind.mean:.4f} +- {row.behind.error:.4f}"
    given_up = f", given up after {row.runs} runs" if row.dropped else ""
    mark = "*" if row.trial_id == BASELINE else ""
    return (
        f"{row.trial_id}{mark} {row.searched:.4f}, {row.mean:.4f} +- {row.error:.4f},"
        f" {row.optimism(mode):+.4f}{behind}{given_up}"
    )


def confirmed_table(search: Search) -> list[dict[str, str]]:
    """The same for the report, a cell each."""
    if search.confirmed is None:
        return []
    return [
        {
            "trial": row.trial_id + (" (baseline)" if row.trial_id == BASELINE else ""),
            "search": f"{row.searched:.4f}",
            "confirmed": f"{row.mean:.4f} ± {row.error:.4f}",
            "optimism": f"{row.optimism(search.mode):+.4f}",
            "behind": f"{row.behind.mean:.4f} ± {row.behind.error:.4f}" if row.behind else "",
            "runs": f"{row.runs}, given up" if row.dropped else f"{row.runs}",
            "epoch": f"{row.epoch}",
            "chosen": "chosen" if row.trial_id == search.confirmed.chosen else "",
        }
        for row in search.confirmed.rows
    ]


def baseline_gain(search: Search, value: float) -> str:
    """The best trial's value less the baseline's, with the paired standard error where known."""
    assert search.baseline is not None
    other = search.comparison and search.comparison.other(BASELINE)
    error = f" +- {other.by[search.metric].error:.4f}" if other else ""
    return f"{value - search.baseline.value:+.4f}{error}"
