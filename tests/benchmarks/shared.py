"""Where the real data sets are that the benchmarks need."""

from __future__ import annotations

import os
from pathlib import Path

BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"


def shared_data() -> Path:
    """The folder of real data sets beside the repository, or RESNET_TUNE_SHARED."""
    folder = Path(os.environ.get("RESNET_TUNE_SHARED", BESIDE))
    if not folder.is_dir():
        raise SystemExit(f"the real data sets are not at {folder}: set RESNET_TUNE_SHARED")
    return folder
