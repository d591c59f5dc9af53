"""The function that Ray runs, called as Ray calls it, without Ray."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from search.running.trial_function import TrialError, make_trainable
from search.running.trouble import OWN_ERROR, OWN_MEMORY, STORAGE

TRIAL = {"_trial_id": "t0003", "lr": 0.5}


@dataclass
class Folder:
    """Data that may go away."""

    there: bool = True

    def here(self) -> str:
        if not self.there:
            raise ValueError("no server")
        return "the data"

    def is_here(self) -> bool:
        return self.there


def raising(error: BaseException) -> Callable[..., None]:
    """A trainable that fails."""

    def trainable(config: dict[str, Any], **more: Any) -> None:
        raise error

    return trainable


def failure(trial: Callable[[dict[str, Any]], None], **config: Any) -> TrialError:
    """The error that Ray is told."""
    with pytest.raises(TrialError) as told:
        trial({**TRIAL, **config})
    return told.value


def test_a_trial_gets_the_fixed_knobs_the_metric_the_data_and_the_rungs() -> None:
    seen: dict[str, Any] = {}

    def trainable(config: dict[str, Any], **more: Any) -> None:
        seen.update(config, **more)

    make_trainable(trainable, {"lr": 0.1, "momentum": 0.9}, "valid_acc", Folder(), (3, 9))(TRIAL)
    assert seen == {
        "lr": 0.5,
        "momentum": 0.9,
        "_trial_id": "t0003",
        "_metric": "valid_acc",
        "data_dir": "the data",
        "checkpoint_epochs": (3, 9),
    }


def test_an_error_is_told_in_one_line_with_its_kind() -> None:
    trial = make_trainable(raising(ValueError("one\ntwo")), {}, "valid_acc", Folder(), ())
    error = failure(trial)
    assert (error.kind, error.text, str(error)) == (OWN_ERROR, "ValueError: one", "ValueError: one")


def test_the_process_remembers_that_it_ran_a_trial() -> None:
    trial = make_trainable(raising(ValueError("no")), {}, "valid_acc", Folder(), ())
    assert not failure(trial).reused
    assert failure(trial).reused


def test_whatever_fails_while_the_data_is_out_of_reach_is_the_machines() -> None:
    data = Folder()

    def trainable(config: dict[str, Any], **more: Any) -> None:
        data.there = False
        raise ValueError("no packed images; run `resnet-tune prepare` first")

    error = failure(make_trainable(trainable, {}, "valid_acc", data, ()))
    assert error.kind == STORAGE
    error = failure(make_trainable(trainable, {}, "valid_acc", data, ()))
    assert error.text == "the prepared data is out of reach (ValueError: no server)"


def test_out_of_the_memory_of_its_part_of_a_gpu_it_asks_for_a_whole_one() -> None:
    out_of_memory = raising(torch.OutOfMemoryError("CUDA out of memory"))
    shared = make_trainable(out_of_memory, {}, "valid_acc", Folder(), (), gpus=0.25)
    assert failure(shared).crowded
    assert not failure(shared, _alone=True).crowded
    whole = failure(make_trainable(out_of_memory, {}, "valid_acc", Folder(), (), gpus=1.0))
    assert (whole.crowded, whole.kind) == (False, OWN_MEMORY)


def test_the_error_survives_the_way_to_the_driver() -> None:
    error = TrialError(STORAGE, "OSError: full", reused=True, crowded=False)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.kind, copy.text, copy.reused, copy.crowded) == (
        STORAGE,
        "OSError: full",
        True,
        False,
    )


def test_the_end_of_a_process_is_not_an_error_of_the_trial() -> None:
    trial = make_trainable(raising(SystemExit(0)), {}, "valid_acc", Folder(), ())
    with pytest.raises(SystemExit):
        trial(TRIAL)


def test_a_trial_of_the_toy_study_imports_no_torch() -> None:
    """It is half of what a worker's start costs, and a whole test run starts some hundred."""
    code = "import sys, tests.toy, search.running.trial_function; print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "False\n"
