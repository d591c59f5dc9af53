"""Commands of the program, run in the test's own process.

What a process of its own would cost above that (imports of Ray, torch and the project: 4 s of a
core) is paid once in a whole test run. Ray's own warnings are to be ignored: `RAY_WARNS`.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

import pytest

from search.cli import guarded

RAY_WARNS = pytest.mark.filterwarnings("ignore")


@dataclass(frozen=True)
class Told:
    """What a command has printed."""

    out: str
    err: str


def resnet_tune(*words: str, code: int = 0) -> Told:
    """Run `resnet-tune WORDS`, which must end with this exit code."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        found = guarded(list(words), debug=False)
    assert found == code, err.getvalue()
    assert "Traceback" not in err.getvalue()
    return Told(out.getvalue(), err.getvalue())
