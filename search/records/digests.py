"""Files of a retrained model are checked where they are read."""

from __future__ import annotations

from pathlib import Path

from data_prep.digests import find_change


def check_digest(path: Path) -> None:
    """Raise ValueError unless a file is as it was when its folder's digests were written.

    A folder without digests is one of a version before, and taken as it is.
    """
    change = find_change(path.parent, [path.name])
    if change is not None:
        raise ValueError(f"{change}; run `resnet-tune retrain` again")
