"""What preflight says of nodes that answer badly, and of what a search will cost."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from data_prep.digits import LAYOUT
from data_prep.prepare import prepare
from search.cluster.check import batch_finding, expected_epochs, forecast
from search.cluster.node_data import find_or_fetch, holds
from search.cluster.node_probe import Answer
from search.cluster.preflight import (
    blocking,
    data_findings,
    disk,
    early_stopping,
    named_files,
    version_findings,
)
from search.cluster.resources import Cluster, Node
from search.cluster.storage import Storage, search_storage
from search.cluster.trial_cost import Measured, extremes, unseen_gpu
from search.digits import STUDY
from search.dog_breed import STUDY as DOGS
from search.records.versions import versions
from search.study.overrides import customise, ends
from search.study.space import distribution
from tests.commands import RAY_WARNS, resnet_tune
from trainables.dog_breed import CONFIG

GOOD = Answer(versions(), "shared", None, 10**12, 10**12, 10**12, (), ())


def nodes(*answers: Answer) -> list[tuple[Node, Answer]]:
    """Nodes 10.0.0.1, 10.0.0.2 and so on with their answers."""
    return [
        (Node(str(i), f"10.0.0.{i}", {"CPU": 4.0}), answer) for i, answer in enumerate(answers, 1)
    ]


def test_other_versions_block_only_where_they_bind() -> None:
    assert [f.level for f in version_findings(nodes(GOOD, GOOD))] == ["ok"]
    torch = dataclasses.replace(GOOD, versions={**versions(), "torch": "1.0"})
    found = version_findings(nodes(GOOD, torch, torch))
    assert [f.level for f in found] == ["error"]
    assert "nodes 10.0.0.2, 10.0.0.3 has torch 1.0 (here " in found[0].text
    numpy = dataclasses.replace(GOOD, versions={**versions(), "numpy": "1.0"})
    assert [f.level for f in version_findings(nodes(numpy))] == ["warning"]


def test_a_budget_that_ends_before_the_first_rung_is_said() -> None:
    (finding,) = early_stopping(customise(STUDY, sets=["grace_period=3"], num_epochs=3))
    assert finding.level == "warning"
    assert finding.text == (
        "early stopping: none, as trials end at epoch 3, before any two are compared;"
        " set grace_period (now 3) lower, or --num-epochs higher"
    )
    assert early_stopping(customise(STUDY, sets=["grace_period=3"], num_epochs=4)) == []
    assert early_stopping(customise(STUDY, sets=["scheduler=none"], num_epochs=3)) == []


def test_full_disks_and_missing_files_block(tmp_path: Path) -> None:
    assert blocking(disk({"a": 10**9}, "for results")) is None
    full = blocking(disk({"a": 10**9, "b": 10**7}, "for results"))
    assert full == "disk: node b has 10.0 MB free for results; at least 67.1 MB are needed"
    data = prepare(LAYOUT, None, tmp_path / "digits")
    absent = dataclasses.replace(GOOD, data="absent")
    assert blocking(data_findings(data, nodes(GOOD, absent))) is None
    no_room = dataclasses.replace(absent, cache_free=1000)
    assert "set RESNET_TUNE_CACHE" in (blocking(data_findings(data, nodes(no_room))) or "")
    lacking = dataclasses.replace(GOOD, missing=("/w/resnet34.pth",))
    assert "node 10.0.0.1 does not have /w/resnet34.pth" in (
        blocking(data_findings(data, nodes(lacking))) or ""
    )


def test_prepared_data_is_found_where_it_is_and_not_where_other_data_is(tmp_path: Path) -> None:
    data = prepare(LAYOUT, None, tmp_path / "digits")
    assert find_or_fetch(str(data.root), data.fingerprint) == str(data.root)
    assert not holds(data.root, "0" * 64)
    array = data.root / "packed" / "train_valid.npy"
    content = array.read_bytes()
    array.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert not holds(data.root, data.fingerprint)
    array.write_bytes(content[:-1])
    assert not holds(data.root, data.fingerprint)


def test_files_named_by_knobs_are_asked_for(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"12345")
    config = dataclasses.replace(CONFIG, weights=str(weights))
    assert named_files(dataclasses.replace(DOGS, config=config)) == ((str(weights), 5),)
    assert named_files(STUDY) == ()


def test_extremes_are_the_ends_of_every_range() -> None:
    configs = extremes(STUDY)
    assert configs["baseline"] == STUDY.config
    for name, end in (("low", min), ("high", max)):
        for knob in ("lr", "batch_size"):
            assert getattr(configs[name], knob) == end(ends(distribution(STUDY.space, knob)))


def test_the_forecast_counts_rungs_and_width() -> None:
    study = dataclasses.replace(STUDY, num_samples=9, scheduler="none")
    assert expected_epochs(study) == 9 * study.num_epochs
    stopping = dataclasses.replace(study, scheduler="asha", grace_period=1, reduction_factor=3)
    assert 9 < expected_epochs(stopping) < expected_epochs(study)
    # Of 15 epochs, rungs at 1 and 3, the baseline runs all; the others 1, 2 / 3 and 12 / 9.
    each = 1 + 2 / 3 + 12 / 9
    assert expected_epochs(stopping) == pytest.approx(15 + 8 * each)
    preset = dataclasses.replace(stopping, points_to_evaluate=({"lr": 0.1},))
    assert expected_epochs(preset) == pytest.approx(2 * 15 + 7 * each)
    other = dataclasses.replace(preset, finish_presets=False, audit_share=0.25)
    assert expected_epochs(other) == pytest.approx(3 * 15 + 6 * each)
    cluster = Cluster(False, (Node("a", "a", {"CPU": 8, "GPU": 2}),))
    measured = [Measured(3600.0, 10**9, 10**6, "cuda:0", 10**10)]
    text = forecast(study, cluster, {"CPU": 1, "GPU": 1}, measured).text
    hours = 9 * study.num_epochs
    assert f"2 trials at once, about {hours} epochs" in text
    assert f"{hours:.2g} GPU-hours" in text
    gpu = {"CPU": 1.0, "GPU": 0.5}
    assert unseen_gpu(study, gpu, measured[0]) == []
    on_cpu = dataclasses.replace(measured[0], device="cpu", gpu_memory=None)
    (finding,) = unseen_gpu(study, gpu, on_cpu)
    assert finding.level == "warning"
    assert "torch in their processes sees none" in finding.text
    assert unseen_gpu(study, {"CPU": 1.0, "GPU": 0.0}, on_cpu) == []
    asked = dataclasses.replace(study, config=dataclasses.replace(study.config, device="cpu"))
    assert unseen_gpu(asked, gpu, on_cpu) == []
    assert batch_finding("baseline", "RuntimeError: x").level == "error"
    assert batch_finding("high", "RuntimeError: x").level == "warning"


def test_a_uri_keeps_its_options_below() -> None:
    storage = search_storage("s3://bucket/base?region=x", Path("results/digits/one"), "digits")
    assert storage.uri == "s3://bucket/base/digits/one?region=x"
    assert Storage("/a?b").below("c").uri == "/a?b/c"


@RAY_WARNS
def test_check_tries_a_batch_and_forecasts(tmp_path: Path) -> None:
    prepare(LAYOUT, None, tmp_path / "digits")
    words = ["check", "digits", "--data", str(tmp_path), "--results", str(tmp_path / "results")]
    lines = resnet_tune(*words).out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    assert [line[8:].split(",")[0].split(":")[0] for line in lines] == [
        *("resources", "disk", "one batch", "one batch", "one batch", "forecast")
    ]
    assert not (tmp_path / "results").exists()
