"""MLflow and Weights & Biases through Ray's own callbacks, made harmless; both are extras."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from ray.tune import Callback
from ray.tune.experiment import Trial

from search.cluster.connection import knock
from search.errors import UsageError
from search.running.harmless import Watcher, harmless
from search.text import masked

PORTS = {"http": 80, "https": 443}


class Harmless(Watcher):
    """Passes the events on to another callback, whose errors do not reach Ray."""

    def __init__(self, name: str, inner: Callback, notice: Callable[[str], None]) -> None:
        """`name` is told with `notice` when `inner` fails."""
        self.name = name
        self.inner = inner
        self.notice = notice

    @harmless
    def setup(self, *args: Any, **info: Any) -> None:
        """The search begins: this connects to the tracker."""
        self.inner.setup(*args, **info)

    @harmless
    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial begins or goes on."""
        self.inner.on_trial_start(iteration, trials, trial, **info)

    @harmless
    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch's metrics."""
        stepped = {**result, "timesteps_total": result["epoch"]}  # what MLflow calls the step
        self.inner.on_trial_result(iteration, trials, trial, stepped, **info)

    @harmless
    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial ended."""
        self.inner.on_trial_complete(iteration, trials, trial, **info)

    @harmless
    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial's process died for good."""
        self.inner.on_trial_error(iteration, trials, trial, **info)

    @harmless
    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """The search is over."""
        self.inner.on_experiment_end(trials, **info)

    def __getstate__(self) -> dict[str, Any]:
        """Ray pickles callbacks; a copy tracks nothing."""
        return {"notice": None}


def trackers(
    experiment: str, mlflow: str | None, wandb: str | None, notice: Callable[[str], None]
) -> list[Callback]:
    """Callbacks for an MLflow tracking URI and a W&B project, as far as they are given.

    `experiment` names the search there. Raises UsageError when the package is not installed.
    """
    found: list[Callback] = []
    if mlflow is not None:
        require("mlflow", "--mlflow")
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        trouble = silent(mlflow)
        if trouble is None:
            inner = MLflowLoggerCallback(tracking_uri=mlflow, experiment_name=experiment)
            found.append(Harmless("MLflow", inner, notice))
        else:
            notice(f"MLflow is off ({masked(mlflow)}: {trouble}); the search goes on")
    if wandb is not None:
        require("wandb", "--wandb")
        from ray.air.integrations.wandb import WandbLoggerCallback

        inner = WandbLoggerCallback(project=wandb, group=experiment)
        found.append(Harmless("Weights & Biases", inner, notice))
    return found


def silent(uri: str) -> str | None:
    """Why nobody answers at an HTTP address; None where somebody does, or it is another kind."""
    parts = urlsplit(uri)
    if parts.scheme not in PORTS or parts.hostname is None:
        return None
    try:
        knock(parts.hostname, parts.port or PORTS[parts.scheme])
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None


def require(package: str, option: str) -> None:
    """Raise UsageError that tells how to install the extra an option needs."""
    if importlib.util.find_spec(package) is None:
        raise UsageError(f"{option} needs {package}: pip install 'resnet-tune[{package}]'")
