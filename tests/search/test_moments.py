"""kill -9 and full disks at random moments of every command (`tests/campaign.py`).

    RESNET_TUNE_MOMENTS=500 RESNET_TUNE_SECONDS=3600 pytest -m soak tests/search/test_moments.py

runs so many cases of each kind of attack, for so long at most; RESNET_TUNE_SEED begins elsewhere.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.campaign import ATTACKS, attack, commands
from tests.stage import Stage, tell_figures

COUNT = int(os.environ.get("RESNET_TUNE_MOMENTS", "100"))
SECONDS = float(os.environ.get("RESNET_TUNE_SECONDS", "1200"))
SEED = int(os.environ.get("RESNET_TUNE_SEED", "1"))
QUICK = [name for name, command in commands(Path()).items() if not command.ray]
SLOW = [name for name, command in commands(Path()).items() if command.ray]


FEW = ["prepare kill", "prepare small", "predict filled", "report small", "retrain kill"]
FEW += ["retrain filled", "export small", "reproduce kill"]
# A search waits for room on a disk that is too small for it: there `filled` makes some again.
MANY = [(w, k) for w in ("quick", "ray") for k in ATTACKS if (w, k) != ("ray", "small")]


@pytest.mark.slow
@pytest.mark.parametrize("case", FEW)
def test_a_command_that_was_killed_or_met_a_full_disk_completes(stage: Stage, case: str) -> None:
    name, kind = case.split()
    attack(stage, name, kind, 0)


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 600)
@pytest.mark.parametrize(("which", "kind"), MANY)
def test_at_many_moments(
    stage: Stage, kind: str, which: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = QUICK if which == "quick" else [n for n in SLOW if n != "check" or kind == "kill"]
    begun = time.monotonic()
    done: Counter[str] = Counter()
    wrong = []
    for seed in itertools.count(SEED):
        for name in names:
            if done.total() >= COUNT or time.monotonic() - begun > SECONDS:
                break
            try:
                attack(stage, name, kind, seed)
            except AssertionError as error:
                wrong.append(str(error)[:3000])
            done[name] += 1
        else:
            continue
        break
    with capsys.disabled():
        tell_figures(kind, done, begun, wrong)
    assert wrong == []
