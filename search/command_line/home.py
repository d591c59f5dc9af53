"""A home for users that the machine does not know, as in a container under another number."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def settle_home() -> None:
    """Name the folder of temporary files as HOME where there is none: importing Ray asks for it."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.gettempdir()
