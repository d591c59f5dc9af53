"""Debian's chromium without a window and without a network, for the tests of the report."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
PATIENCE = 60_000  # milliseconds


@dataclass
class Opened:
    """A page from disk, what it complained of, and what it asked the network for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    seconds: float = 0.0
    """From opening until every figure was drawn."""


@contextmanager
def opened(
    file: Path, width: int = 1400, scheme: Literal["light", "dark"] = "light"
) -> Iterator[Opened]:
    """The page with all its figures drawn, in a browser that is offline."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        found = Opened(context.new_page())
        found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
        found.page.on(
            "console",
            lambda message: (
                found.complaints.append(message.text)
                if message.type in ("error", "warning")
                else None
            ),
        )
        found.page.on("request", lambda request: found.requests.append(request.url))
        begun = time.monotonic()
        found.page.goto(file.absolute().as_uri())
        found.page.wait_for_selector("html[data-drawn]", timeout=PATIENCE, state="attached")
        found.seconds = time.monotonic() - begun
        yield found
        browser.close()
