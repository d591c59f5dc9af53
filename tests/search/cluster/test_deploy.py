"""The ready files for autoscaler, Kubernetes and Slurm, tested as far as can be without these."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from data_prep.digits import LAYOUT
from data_prep.prepare import prepare
from search import load
from search.cli import app
from tests.ledgers import most_at_once
from tests.raylets import ENV, RAY, UNSHARE, namespaces_allowed

DEPLOY = Path(__file__).resolve().parents[3] / "search" / "deploy"


def read(name: str) -> dict[str, Any]:
    """A YAML file."""
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text())
    return loaded


def search_options(words: list[str]) -> dict[str, Any]:
    """What `resnet-tune search` makes of these words; raises where it would refuse them."""
    command = typer.main.get_command(app).commands["search"]  # type: ignore[attr-defined]
    parsed: dict[str, Any] = command.make_context("search", words).params
    return parsed


def test_ray_accepts_the_autoscaler_file() -> None:
    config = prepare_config(read("autoscaler.yaml"))
    validate_config(config)
    types = config["available_node_types"]
    assert types["gpu"]["resources"]["GPU"] == 1
    assert types["gpu-spot"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert types["head"]["resources"]["CPU"] == 0


def test_the_rayjob_calls_a_command_that_exists() -> None:
    spec = read("rayjob.yaml")["spec"]
    program, search, *words = shlex.split(spec["entrypoint"])
    assert (program, search) == ("resnet-tune", "search")
    assert search_options(words)["gpus_per_trial"] == "auto"
    cluster = spec["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        assert pod["volumes"][0]["name"] == pod["containers"][0]["volumeMounts"][0]["name"]
    assert groups[1]["minReplicas"] >= 1
    assert cluster["authOptions"] == {"mode": "token"}
    assert tuple(map(int, cluster["rayVersion"].split("."))) >= (2, 52, 0), "the first with tokens"


def test_no_file_leaves_a_cluster_open() -> None:
    for path in DEPLOY.iterdir():
        text = path.read_text()
        assert "disabled" not in text
        assert "RAY_AUTH_MODE=token" in text or "authOptions: {mode: token}" in text


def test_slurms_token_is_the_users_own_and_goes_with_the_job(tmp_path: Path) -> None:
    told = (
        'echo "$RAY_AUTH_MODE $(cat "$RAY_AUTH_TOKEN_PATH") $(stat -c %a "$RAY_AUTH_TOKEN_PATH")"'
    )
    for name, text in {"scontrol": "echo 127.0.0.1", "srun": told}.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "one", "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1"}
    done = subprocess.run(
        ["bash", str(DEPLOY / "slurm.sh"), "digits"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **slurm, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stderr
    mode, token, rights = done.stdout.split()
    assert mode == "token"
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert rights == "600"
    assert not list(tmp_path.glob(".ray-token*"))


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_the_slurm_script_runs_a_search_on_one_node(tmp_path: Path) -> None:
    """Slurm's two commands are stood in for; `ray symmetric-run` is the real one.

    It ends with `ray stop`, which ends all of Ray that it sees: hence the namespaces.
    """
    if not namespaces_allowed():
        pytest.skip("Linux namespaces need root (unshare): `ray stop` would end other clusters")
    commands = {
        "scontrol": "echo 127.0.0.1",
        "srun": 'while [[ "$1" == --* ]]; do shift; done; exec "$@"',
        "resnet-tune": f'exec {sys.executable} -m search "$@"',
    }
    for name, text in commands.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    prepare(LAYOUT, None, tmp_path / "data" / "toy")
    toy = Path(__file__).parents[2] / "toy.py"
    folders = ["--data", str(tmp_path / "data"), "--results", str(tmp_path / "results")]
    slurm = {
        "SLURM_JOB_NODELIST": "one",
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_NUM_NODES": "1",
        "PATH": f"{tmp_path}:{ENV['PATH']}",
        "PYTHONPATH": str(DEPLOY.parents[1]),
    }
    command = ["bash", str(DEPLOY / "slurm.sh"), str(toy), *folders, "--name", "one"]
    done = subprocess.run(
        [*UNSHARE, "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command],
        capture_output=True,
        text=True,
        env={**os.environ, **ENV, **slurm},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(load(tmp_path / "results" / "toy" / "one").trials) == 12


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_the_autoscaler_starts_a_first_node_and_as_many_as_may_run_at_once(tmp_path: Path) -> None:
    """Ray's own autoscaler, whose provider starts raylets on this machine in place of machines."""
    if not namespaces_allowed():
        pytest.skip("Linux namespaces need root (unshare): `ray stop` would end other clusters")
    config = prepare_config(read("autoscaler.yaml"))
    config["provider"] = {
        "type": "fake_multinode",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    }
    config["file_mounts"] = {}  # this test's nodes have no token to send
    (tmp_path / "scaling.json").write_text(json.dumps(config))
    prepare(LAYOUT, None, tmp_path / "data" / "toy")
    toy = Path(__file__).parents[2] / "toy.py"
    folders = ["--data", str(tmp_path / "data"), "--results", str(tmp_path / "results")]
    options = ["--name", "one", "--address", "127.0.0.1:6379", "--gpus-per-trial", "0.5"]
    slow = ["--max-concurrent", "6", "--set", "epoch_seconds=5", "--set", "scheduler=none"]
    script = f"""
        set -e; code=0
        ip link set lo up
        {RAY} start --head --num-cpus=0 --port=6379 --node-ip-address=127.0.0.1 \\
            --autoscaling-config={tmp_path}/scaling.json
        "$@" || code=$?
        {RAY} stop --force
        exit $code
    """
    fake = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    command = [sys.executable, "-m", "search", "search", str(toy), *folders, *options, *slow]
    done = subprocess.run(
        [*UNSHARE, "bash", "-c", script, "bash", *command],
        capture_output=True,
        text=True,
        env={**os.environ, **ENV, **fake},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no node for trials yet: waiting for the first to join" in done.stderr
    assert most_at_once(tmp_path / "results" / "toy" / "one") == 6
