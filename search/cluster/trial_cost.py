"""One batch of the baseline and of the space's two extremes, on the cluster: time and memory."""

from __future__ import annotations

import dataclasses
import math
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from optuna.distributions import CategoricalDistribution

from search import console
from search.cluster.gpu_packing import share, trials_per_gpu
from search.cluster.node_data import NodeData
from search.cluster.preflight import Finding, line
from search.errors import UserError
from search.study.space import distribution, is_active
from search.study.study import Study
from search.text import named
from trainables.config import TrainConfig
from trainables.reporting import STATE_FILE

POLL = 0.2  # seconds between two looks at whether to stop


@dataclass(frozen=True)
class Measured:
    """What one configuration costs on the node that tried it."""

    epoch_seconds: float
    """From one batch of training and one of validation, after one to warm up."""
    memory: int
    """Peak bytes: of torch's allocator on a GPU, else of the process."""
    checkpoint: int
    """Bytes of a saved training."""
    device: str
    gpu_memory: int | None
    """Total bytes of the GPU, None without one."""


def extremes(study: Study) -> dict[str, TrainConfig]:
    """The baseline, and all searched knobs at their low and at their high ends."""
    ends: dict[str, dict[str, Any]] = {"low": {}, "high": {}}
    for name in study.space:
        knob = distribution(study.space, name)
        if isinstance(knob, CategoricalDistribution):
            choices: list[Any] = list(knob.choices)
            if all(isinstance(choice, int | float) for choice in choices):
                choices.sort()
            low, high = choices[0], choices[-1]
        else:
            low, high = knob.low, knob.high  # type: ignore[attr-defined]
        for config, value in ((ends["low"], low), (ends["high"], high)):
            if is_active(study.space, name, config):
                config[name] = value
    configs = {name: dataclasses.replace(study.config, **end) for name, end in ends.items()}
    return {"baseline": study.config, **configs}


def try_baseline(
    study: Study, data: NodeData, resources: dict[str, float], stop: Callable[[], bool]
) -> None:
    """One batch of the baseline where its trials will run, until `stop`.

    Raises UserError with its error; nothing is tried of a task that has no `load_data`.
    """
    if not hasattr(study.trainables, "load_data"):
        return
    configs = {"baseline": study.config}
    result = measure_on_cluster(study, data, resources, configs, stop).get("baseline")
    if result is None:
        return
    if isinstance(result, str):
        raise UserError(
            f"one batch of the baseline fails where trials run: {result}"
            " (--no-trial-batch starts without one)"
        )
    for finding in unseen_gpu(study, resources, result):
        console.notice(line(finding))


def unseen_gpu(study: Study, resources: dict[str, float], measured: Measured) -> list[Finding]:
    """A warning where trials take GPUs of Ray's, and torch in their processes sees none."""
    if resources["GPU"] == 0 or measured.device != "cpu" or study.config.device != "auto":
        return []
    text = "GPU: Ray gives trials one, torch in their processes sees none: they compute on the CPU"
    advice = "look at the driver and at torch's build there, or add --gpus-per-trial 0"
    return [Finding("warning", f"{text}; {advice}")]


def measure_on_cluster(
    study: Study,
    data: NodeData,
    resources: dict[str, float],
    configs: Mapping[str, TrainConfig] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Measured | str]:
    """Each configuration (`extremes`) with a trial's resources; a text where it failed.

    Those that have not ended when `stop` says so are left out.
    """
    kind = {"num_cpus": resources["CPU"], "num_gpus": resources["GPU"], "max_retries": 0}
    task = ray.remote(**kind)(one_batch)
    pending = {
        name: task.remote(study.trainables, config, data)
        for name, config in (configs or extremes(study)).items()
    }
    results: dict[str, Measured | str] = {}
    for name, reference in pending.items():
        while not (ended := ray.wait([reference], timeout=POLL)[0]) and not stop():
            pass
        if not ended:
            ray.cancel(reference, force=True)
            continue
        try:
            results[name] = ray.get(reference)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            results[name] = named(cause)
    return results


def one_batch(trainables: Any, config: TrainConfig, data: NodeData) -> Measured:
    """Train and validate one batch; the last of some steps counts."""
    from trainables.step import WARM_UP, stepper

    forget_peak()
    loaded = trainables.load_data(Path(data.here()), config)
    state = trainables.start(config, loaded)
    state.network.train()
    batches = loaded.train.train_batches(config.batch_size, 1, config.seed)
    inputs, labels = next(batches)
    seconds, images = 0.0, len(labels)
    step = stepper(state, config)
    for _ in range(WARM_UP + 2 if state.machine.graphs else 2):  # one to warm up, or to capture
        begun = time.perf_counter()
        inputs, labels = next(batches, (inputs, labels))  # a data set of one batch: it again
        float(step(inputs, labels))
        seconds, images = time.perf_counter() - begun, len(labels)
    steps = math.ceil(len(loaded.train) / images)
    check = seconds / 3 * len(loaded.valid) / images  # a forward pass, a third of a step
    with tempfile.TemporaryDirectory() as folder:
        state.save(Path(folder, STATE_FILE))
        checkpoint = Path(folder, STATE_FILE).stat().st_size
    device = state.machine.device
    return Measured(
        seconds * steps + check,
        peak_memory(device.type),
        checkpoint,
        str(device),
        total_memory(device.type),
    )


def total_memory(device_type: str) -> int | None:
    """Bytes of the GPU that this process uses."""
    import torch

    if device_type != "cuda":
        return None
    return int(torch.cuda.get_device_properties(0).total_memory)


def forget_peak() -> None:
    """Another configuration may have used this process's GPU."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device_type: str) -> int:
    """Peak bytes of this process, on the GPU where it uses one."""
    import torch

    if device_type == "cuda":
        return int(torch.cuda.max_memory_reserved())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def packed_gpus(study: Study, data: NodeData, resources: dict[str, float]) -> float:
    """The part of a GPU that the hungriest of baseline and extremes needs, measured on the cluster.

    Raises ValueError when a configuration cannot be measured, or does not fit on the smallest GPU.
    """
    measured = measure_on_cluster(study, data, resources)
    failed = {name: text for name, text in measured.items() if isinstance(text, str)}
    if failed:
        name, text = next(iter(failed.items()))
        raise ValueError(f"--gpus-per-trial auto: the {name} configuration failed: {text}")
    peaks = [m for m in measured.values() if isinstance(m, Measured)]
    if any(peak.gpu_memory is None for peak in peaks):
        raise ValueError("--gpus-per-trial auto: torch sees no GPU on the nodes; give a number")
    smallest = [peak.gpu_memory for peak in peaks if peak.gpu_memory is not None]
    return share(trials_per_gpu(max(peak.memory for peak in peaks), smallest))
