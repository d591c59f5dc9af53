"""Searches on a real Ray cluster of several nodes, with nothing shared but the storage folder."""

from __future__ import annotations

import dataclasses
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest

from data_prep.digits import LAYOUT
from data_prep.prepare import prepare
from search import Search, load
from search.cluster.connection import DRIVER_ENV
from search.cluster.private import environment_with
from search.cluster.resources import Cluster as Connection
from search.cluster.resources import Node, trial_resources
from search.records.ledger import read_events
from search.records.statuses import FINISHED
from tests.raylets import ENV, Cluster, raylets
from tests.toy import STUDY

REPOSITORY = Path(__file__).resolve().parents[3]
TOY = REPOSITORY / "tests" / "toy.py"
SMALL = [
    # Long enough that the second node's worker is up before the first has run them all.
    *("--num-samples", "6", "--num-epochs", "12", "--set", "precision=float32"),
    *("--set", "width=96"),
    *("--set", "scheduler=none", "--set", "sampler=random"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with prepared data; `shared` in it is what all nodes see."""
    place = tmp_path_factory.mktemp("place")
    for name in ("shared", "cache"):
        (place / name).mkdir()
    prepare(LAYOUT, None, place / "data" / "digits")
    prepare(LAYOUT, None, place / "data" / "toy")
    return place


@pytest.fixture(scope="module")
def cluster(place: Path) -> Iterator[Cluster]:
    """A head and two workers that see everything."""
    with raylets(cpus=1) as started:
        yield started


def command(place: Path, task: str, name: str, *options: str) -> list[str]:
    """`resnet-tune search` as a user would type it."""
    folders = ["--data", str(place / "data"), "--results", str(place / "shared")]
    words = [sys.executable, "-m", "search", "search", task, *folders, "--name", name]
    return [*words, *options]


def environment(place: Path) -> dict[str, str]:
    """Of drivers and nodes."""
    return {**os.environ, **ENV, "RESNET_TUNE_CACHE": str(place / "cache")}


def search(
    cluster: Cluster, place: Path, task: str, name: str, options: Sequence[str] = (), code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run a search on the cluster to its end."""
    words = command(place, task, name, "--address", cluster.address, *options)
    done = subprocess.run(
        cluster.inside(words), capture_output=True, text=True, env=environment(place)
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def curves(found: Search) -> pd.DataFrame:
    """Every trial's numbers, without the times."""
    return found.history.drop(columns="seconds").sort_values(
        ["trial_id", "epoch"], ignore_index=True
    )


def hosts(found: Search) -> set[str]:
    """Nodes that trials ran on."""
    return {str(record.facts["node_ip"]) for record in found.records.values()}


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_data_shared_or_sent_gives_equal_results_on_all_nodes(
    cluster: Cluster, place: Path
) -> None:
    told = search(cluster, place, "digits", "shared", SMALL)
    assert "2 nodes see" in told.stderr
    shared = load(place / "shared" / "digits" / "shared")
    assert hosts(shared) == {node.ip for node in cluster.workers}
    if not cluster.isolated:
        pytest.skip(
            "Linux namespaces need root (unshare): without them no folder can be hidden from a node"
        )
    hidden = [place / "data", place / "cache"]
    hidden += [REPOSITORY / name for name in ("data_prep", "trainables", "search")]
    for node in list(cluster.workers):
        cluster.kill(node)
        cluster.add_worker(hide=hidden, env={"RESNET_TUNE_CACHE": str(place / "cache")})
    cluster.wait_for_nodes()
    told = search(cluster, place, "digits", "sent", SMALL)
    assert "2 are sent" in told.stderr
    sent = load(place / "shared" / "digits" / "sent")
    assert hosts(sent) == {node.ip for node in cluster.workers}
    assert set(sent.trials["status"]) == {"completed"}
    pd.testing.assert_frame_equal(curves(shared), curves(sent))
    assert not list((place / "cache").iterdir()), "the copies are the nodes' own"


def ends_of(search_dir: Path) -> int:
    """Trials that have ended so far."""
    if not (search_dir / "search.json").exists():
        return 0
    return sum(record.status in FINISHED for record in load(search_dir).records.values())


def wait_for_ends(search_dir: Path, count: int) -> None:
    """Until so many trials have ended."""
    deadline = time.monotonic() + 120
    while ends_of(search_dir) < count:
        assert time.monotonic() < deadline, f"{count} trials had not ended within two minutes"
        time.sleep(0.2)


def kill_a_trial(cluster: Cluster) -> int:
    """kill -9 of a process that runs a trial; how many there were."""
    running = [process for node in cluster.workers for process in node.trial_processes()]
    for process in running[:1]:
        process.kill()
    return len(running)


def survive(cluster: Cluster, place: Path, name: str, seed: int) -> Search:
    """A search during which a node, a trial and the driver are killed at random moments."""
    moments = random.Random(seed)
    options = ["--address", cluster.address, "--set", "epoch_seconds=0.3", "--num-samples", "10"]
    words = command(place, str(TOY), name, *options)
    search_dir = place / "shared" / "toy" / name
    driver = subprocess.Popen(
        cluster.inside(words),
        env=environment(place),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_ends(search_dir, 1)
        time.sleep(moments.uniform(0, 1))
        cluster.kill(moments.choice(cluster.workers))
        cluster.add_worker(cpus=1)
        time.sleep(moments.uniform(0, 2))
        deadline = time.monotonic() + 120
        while not kill_a_trial(cluster) and ends_of(search_dir) < 10:
            assert time.monotonic() < deadline, "no trial ran for two minutes"
            time.sleep(0.2)
        time.sleep(moments.uniform(0, 4))
    finally:
        driver.kill()
        driver.wait()
    finished = {k: r.history for k, r in load(search_dir).records.items() if r.status in FINISHED}
    search(cluster, place, str(TOY), name, ["--resume"])
    found = load(search_dir)
    assert all(found.records[trial_id].history == was for trial_id, was in finished.items())
    return found


def check_complete(found: Search, num_samples: int) -> None:
    """Every trial ended once, with every epoch up to its end, and the table tells of the faults."""
    assert sorted(found.records) == [f"t{number:04d}" for number in range(num_samples)]
    assert {record.status for record in found.records.values()} <= {"completed", "stopped"}
    ends: dict[str, int] = {}
    for event in read_events(found.path / "ledger.jsonl"):
        if event["event"] == "end" and event["status"] in FINISHED:
            ends[event["trial"]] = ends.get(event["trial"], 0) + 1
    assert set(ends.values()) == {1}
    for record in found.records.values():
        assert sorted(record.history) == list(range(1, record.epochs + 1))
        quality = record.config["quality"]
        expected = [quality * (1 - math.exp(-epoch / 3)) for epoch in sorted(record.history)]
        assert [record.history[e]["valid_acc"] for e in sorted(record.history)] == expected
    told = pd.read_csv(found.path / "trials.csv").set_index("trial_id")["error"].dropna()
    restarted = {record.trial_id for record in found.records.values() if record.restarts}
    assert set(told.index) == restarted
    assert all(text.startswith("restarted ") for text in told)


@pytest.mark.slow
def test_killed_node_trial_and_driver_cost_no_trial(cluster: Cluster, place: Path) -> None:
    found = survive(cluster, place, "faults", seed=0)
    check_complete(found, 10)
    assert any(record.restarts for record in found.records.values())


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1, 11))
def test_killed_at_random_moments(cluster: Cluster, place: Path, seed: int) -> None:
    check_complete(survive(cluster, place, f"faults{seed}", seed), 10)


@pytest.mark.slow
def test_what_cannot_work_is_refused_in_one_line(cluster: Cluster, place: Path) -> None:
    if not cluster.isolated:
        pytest.skip(
            "Linux namespaces need root (unshare): without them no folder can be hidden from a node"
        )
    other = place / "packages" / "torch-1.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.0\n")
    scratch = place / "scratch"
    scratch.mkdir()
    bad = cluster.add_worker(
        cpus=1,
        hide=[place / "shared"],
        small={scratch: "1m"},
        env={"PYTHONPATH": str(other.parent), "TMPDIR": str(scratch)},
    )
    try:
        cluster.wait_for_nodes()
        told = search(cluster, place, str(TOY), "refused", code=1).stderr
        greedy = search(cluster, place, str(TOY), "refused", ["--gpus-per-trial", "9"], code=1)
    finally:
        cluster.kill(bad)
    error = told.strip().splitlines()[-1]
    assert f"is not shared: node {bad.ip} does not see what was written there" in error
    assert f"node {bad.ip} has torch 1.0 (here " in error
    assert f"disk: node {bad.ip} has 1.0 MB free for temporary files" in error
    assert error.count(bad.ip) == 4  # the folder in the place of the storage is small, too
    assert all(node.ip not in error for node in cluster.workers)
    assert not (place / "shared" / "toy" / "refused").exists()
    assert "asks for 9 GPUs but no Ray node has more than 0" in greedy.stderr


def test_ray_settings_hold_for_the_connection_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_DEDUP_LOGS", "1")
    monkeypatch.delenv("TUNE_WARN_THRESHOLD_S", raising=False)
    with environment_with(DRIVER_ENV):
        assert os.environ["RAY_DEDUP_LOGS"] == "1", "what the user has set stays"
        assert os.environ["TUNE_WARN_THRESHOLD_S"] == "30"
    assert os.environ["RAY_DEDUP_LOGS"] == "1"
    assert "TUNE_WARN_THRESHOLD_S" not in os.environ


def connection(*resources: dict[str, float]) -> Connection:
    """A cluster of nodes with these resources."""
    return Connection(False, tuple(Node(str(i), str(i), r) for i, r in enumerate(resources)))


def test_trials_at_once_never_straddle_gpus_or_nodes() -> None:
    two = connection({"CPU": 16, "GPU": 2}, {"CPU": 3})
    assert two.trials({"CPU": 1, "GPU": 0.25}) == 8
    assert two.trials({"CPU": 1, "GPU": 0.4}) == 4
    assert two.trials({"CPU": 4, "GPU": 0.25}) == 4
    assert two.trials({"CPU": 2, "GPU": 0}) == 9
    assert connection({"CPU": 64, "GPU": 1}).trials({"CPU": 1, "GPU": 0.1}) == 10


@pytest.mark.parametrize(
    ("cpus", "gpus", "text"),
    [
        (17, 0, "asks for 17 CPUs but no Ray node has more than 16"),
        (1, 3, "asks for 3 GPUs but no Ray node has more than 2"),
        (1, 1.5, "use a whole number, or a fraction below 1"),
        (9, 1, "no Ray node has both 9 CPUs and 1 GPUs"),
    ],
)
def test_resources_that_no_node_has_are_refused(cpus: float, gpus: float, text: str) -> None:
    study = dataclasses.replace(STUDY, cpus_per_trial=cpus, gpus_per_trial=gpus)
    with pytest.raises(ValueError, match=text):
        trial_resources(study, connection({"CPU": 16}, {"CPU": 8, "GPU": 2}))
