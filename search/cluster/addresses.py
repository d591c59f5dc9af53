"""How a cluster is named: --address, RAY_ADDRESS, ray://. Imports no Ray."""

from __future__ import annotations

import os

RAY_CLIENT = "ray://"


def asked_address(address: str | None) -> str | None:
    """The cluster that was asked for: --address, else RAY_ADDRESS; None for a private one."""
    return address or os.environ.get("RAY_ADDRESS") or None
