"""The options that `submit` adds to those of `search`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer


@dataclass(frozen=True, kw_only=True)
class Submission:
    """The options that `submit` adds to those of `search`."""

    job_address: Annotated[
        str, typer.Option(metavar="URL", help="The cluster: http://HOST:8265 or ray://HOST:PORT.")
    ]
    follow: Annotated[bool, typer.Option(help="Print the job's log until it ends.")] = True
