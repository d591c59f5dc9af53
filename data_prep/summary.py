"""The audit as audit.json holds it, and as a reader is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.audit import Audit, words

NAMED = 5  # classes that one line names
FEW = 3  # of a kind of problem that are all named
SHOWN = 60  # characters of each


def audit_record(found: Audit, plan: Mapping[str, str]) -> dict[str, Any]:
    """The audit and the split's counts as audit.json holds them."""
    sides = list(plan.values())
    across = [ids for ids in found.identical if len({plan[i] for i in ids}) > 1]
    counts = {
        "label_rows": found.label_rows,
        "labelled": len(found.labels),
        "classes": len(set(found.labels.values())),
        "train": sides.count("train"),
        "valid": sides.count("valid"),
        "test": len(found.test_ids),
        "answers": len(found.wanted.answers),
        "identical_groups": len(found.identical),
        "identical_across": len(across),
        "conflicts": len(found.conflicts),
        "small_classes": len(found.small_classes),
        "test_in_train": len(found.test_in_train),
        "lost_classes": len(found.lost_classes),
        **{reason: len(names) for reason, names in found.skipped.items()},
    }
    return {
        "counts": counts,
        "duplicates": found.identical,
        "conflicts": [
            {"ids": ids, "labels": [found.labels[i] for i in ids]} for ids in found.conflicts
        ],
        "small_classes": found.small_classes,
        "test_in_train": found.test_in_train,
        "lost_classes": found.lost_classes,
        "only_class": next(iter(found.labels.values())) if counts["classes"] == 1 else None,
        "notes": found.notes,
        "skipped": found.skipped,
    }


def summarise(record: Mapping[str, Any]) -> str:
    """A few lines for the reader, from what audit.json holds."""
    counts: Mapping[str, int] = record["counts"]
    lines = [
        f"{counts['labelled']:,} labelled images of {counts['classes']}"
        f" class{'' if counts['classes'] == 1 else 'es'}:"
        f" {counts['train']:,} train, {counts['valid']:,} valid; {counts['test']:,} test images",
        *record.get("notes", []),
    ]
    lost = record.get("lost_classes", [])
    if lost:
        more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
        lines.append(f"CLASSES LOST, without one usable image: {', '.join(lost[:NAMED])}{more}")
    if record.get("only_class") is not None:
        lines.append(
            f"only one class ({record['only_class']}), which leaves nothing to tell apart:"
            " is the source complete?"
        )
    if not counts["test"]:
        lines.append("no test images: there is nothing to predict")
    found = [problem(name, names) for name, names in record["skipped"].items() if names]
    if found:
        lines.append(f"left out or odd (all named in audit.json): {', '.join(found)}")
    if counts["identical_groups"]:
        lines.append(identical_line(counts))
    if counts["small_classes"]:
        lines.append(f"classes too small to split, all in train: {counts['small_classes']:,}")
    if counts["test_in_train"]:
        lines.append(f"test images that are labelled images as well: {counts['test_in_train']:,}")
    return "\n".join(lines)


def problem(name: str, names: Sequence[str]) -> str:
    """`missing files 2 (a, b)`; of many only the first is named."""
    some = ", ".join(one[:SHOWN] for one in names[: 1 if len(names) > FEW else FEW])
    return f"{words(name)} {len(names):,} ({some}{', ...' if len(names) > FEW else ''})"


def identical_line(counts: Mapping[str, int]) -> str:
    """What is said of identical images; a split that the source gives may part them."""
    across = counts.get("identical_across", 0)
    sides = f"{across:,} of them on both sides of the split" if across else "each kept on one side"
    return (
        f"groups of identical images, {sides}: {counts['identical_groups']:,},"
        f" with different labels: {counts['conflicts']:,}"
    )
