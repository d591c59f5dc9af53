"""A real Ray cluster on this machine, for tests: each node a raylet with namespaces of its own.

The head makes a network namespace with a bridge in it. Every worker has its own network namespace
on that bridge, its own process namespace (so that its end takes all its processes along) and its
own mount namespace (so that folders can be hidden from it): only what is not hidden is shared.
Where the machine does not allow namespaces, nodes are plain raylets with own session folders.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

RAY = str(Path(sys.executable).with_name("ray"))
ENV = {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # jobs call `python`
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_period_ms": "500",  # a dead node is noticed within seconds
    "RAY_health_check_failure_threshold": "4",
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
}
COUNT_NODES = """
import sys, time, ray
deadline = time.monotonic() + 90
while True:
    try:
        if not ray.is_initialized():
            ray.init(address=sys.argv[1], log_to_driver=False, logging_level=50)
        told = str(sum(node["Alive"] for node in ray.nodes()))
    except ConnectionError as error:  # the head is not up yet
        told = str(error)
    if told == sys.argv[2]:
        break
    if time.monotonic() > deadline:
        sys.exit(told)
    time.sleep(0.2)
"""
OBJECT_STORE = 100 * 2**20  # bytes a node
UNSHARE = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


@functools.cache
def namespaces_allowed() -> bool:
    """Whether this user may make namespaces here."""
    tools = all(shutil.which(tool) for tool in ("unshare", "nsenter", "ip"))
    return tools and subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Node:
    """One raylet and all that belongs to it."""

    name: str
    ip: str
    process: subprocess.Popen[bytes]
    folder: Path

    def processes(self) -> list[psutil.Process]:
        """All living processes of the node, without the one that keeps it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def trial_processes(self) -> list[psutil.Process]:
        """The workers that run a trial at the moment."""
        return [p for p in self.processes() if "ImplicitFunc" in title(p)]

    def kill(self) -> None:
        """kill -9 of everything on the node, as a power cut does it."""
        doomed = self.processes()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(timeout=30)
        if self.process.stdin is not None:
            self.process.stdin.close()


def title(process: psutil.Process) -> str:
    """The process's command line, `` for one that has just gone."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


@dataclass
class Cluster:
    """A head and its workers; `address` is what `--address` takes."""

    head: Node
    port: int
    dashboard_port: int
    client_port: int
    isolated: bool
    workers: list[Node] = field(default_factory=list)
    started: int = 1

    @property
    def address(self) -> str:
        """Where drivers and nodes join."""
        return f"{self.head.ip}:{self.port}"

    @property
    def job_address(self) -> str:
        """The job server."""
        return f"http://{self.head.ip}:{self.dashboard_port}"

    @property
    def client_address(self) -> str:
        """The server of Ray Client."""
        return f"ray://{self.head.ip}:{self.client_port}"

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command as it must be run to be on the head's network."""
        if not self.isolated:
            return list(command)
        pid = psutil.Process(self.head.process.pid).children()[0].pid
        return ["nsenter", f"--target={pid}", "--net", "--", *command]

    def add_worker(
        self,
        *,
        cpus: int = 2,
        gpus: int = 0,
        hide: Sequence[Path] = (),
        small: Mapping[Path, str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Node:
        """Start another node; it sees an empty folder instead of each of `hide`.

        `small` maps a folder to the size of the tmpfs it is on this node, as mount(8) writes it.
        """
        self.started += 1
        name = f"w{self.started}"
        mounts = {**{path: "16m" for path in hide}, **(small or {})}
        ip = f"10.77.0.{self.started}" if self.isolated else self.head.ip
        options = [f"--address={self.address}", f"--num-cpus={cpus}", f"--num-gpus={gpus}"]
        if self.isolated:
            options.append(f"--node-ip-address={ip}")
        node = start_node(name, ip, options, mounts, self.isolated, env or {})
        self.workers.append(node)
        if self.isolated:
            connect(self.inside, node, self.started)
        return node

    def wait_for_nodes(self) -> None:
        """Until exactly the nodes that have been started are alive; AssertionError after 90 s."""
        wanted = str(1 + len(self.workers))
        done = subprocess.run(
            self.inside([sys.executable, "-c", COUNT_NODES, self.address, wanted]),
            capture_output=True,
            text=True,
            env={**os.environ, **ENV},
        )
        told = done.stdout + done.stderr
        assert done.returncode == 0, f"{wanted} nodes were not alive: {told}; {self.logs()}"

    def kill(self, node: Node) -> None:
        """Kill a worker node."""
        node.kill()
        self.workers.remove(node)
        shutil.rmtree(node.folder, ignore_errors=True)

    def logs(self) -> dict[str, str]:
        """What the nodes wrote, for the message of a failed test."""
        nodes = [self.head, *self.workers]
        return {node.name: (node.folder / "node.log").read_text() for node in nodes}

    def close(self) -> None:
        """End all nodes."""
        for node in [*self.workers, self.head]:
            node.kill()
            shutil.rmtree(node.folder, ignore_errors=True)


def start_node(
    name: str,
    ip: str,
    options: Sequence[str],
    mounts: Mapping[Path, str],
    isolated: bool,
    env: Mapping[str, str],
) -> Node:
    """Start `ray start` on a node of its own; with namespaces it waits for a line to begin."""
    folder = Path(tempfile.mkdtemp(prefix="rt-", dir="/tmp"))  # short: sockets lie in it
    common = [f"--temp-dir={folder}", f"--object-store-memory={OBJECT_STORE}", "--block"]
    command = [RAY, "start", *options, *common, "--disable-usage-stats"]
    env = {**os.environ, **ENV, **env}
    env.pop("RAY_ADDRESS", None)
    with (folder / "node.log").open("wb") as log:
        if not isolated:
            process = subprocess.Popen(
                command, env=env, cwd=folder, stdout=log, stderr=log, start_new_session=True
            )
            return Node(name, ip, process, folder)
        lines = ["read go", "ip link set lo up", "mount --make-rprivate /"]
        lines += [f"mount -t tmpfs -o size={size} tmpfs '{path}'" for path, size in mounts.items()]
        script = " && ".join([*lines, 'exec "$@"'])
        process = subprocess.Popen(
            [*UNSHARE, "sh", "-c", script, "sh", *command],
            env=env,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    wait_for_namespace(process.pid)
    return Node(name, ip, process, folder)


def wait_for_namespace(pid: int) -> None:
    """Until the process has left this process's network."""
    ours = os.readlink("/proc/self/ns/net")
    deadline = time.monotonic() + 30
    while os.readlink(f"/proc/{pid}/ns/net") == ours or not psutil.Process(pid).children():
        assert time.monotonic() < deadline, "no network namespace was made within 30 s"
        time.sleep(0.02)


def connect(inside: Callable[[Sequence[str]], list[str]], node: Node, number: int) -> None:
    """Put the waiting node on the head's bridge and let it begin."""
    end, peer = f"v{number}", f"p{number}"
    run(inside(["ip", "link", "add", end, "type", "veth", "peer", "name", peer]))
    run(inside(["ip", "link", "set", end, "master", "br0", "up"]))
    # nsenter changes the network only: the pid is this process's view of it
    run(inside(["ip", "link", "set", peer, "netns", str(node.process.pid)]))
    enter = ["nsenter", f"--target={node.process.pid}", "--net", "--"]
    run([*enter, "ip", "addr", "add", f"{node.ip}/24", "dev", peer])
    run([*enter, "ip", "link", "set", peer, "up"])
    begin(node)


def begin(node: Node) -> None:
    """Let a waiting node start its raylet."""
    assert node.process.stdin is not None
    node.process.stdin.write(b"go\n")
    node.process.stdin.close()


def run(command: Sequence[str]) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"


def start_head(*, cpus: int, gpus: int) -> Cluster:
    """The head node, on 10.77.0.1 of a network of its own where that is allowed."""
    isolated = namespaces_allowed()
    ip = "10.77.0.1" if isolated else "127.0.0.1"
    ports = (6379, 8265, 10001) if isolated else (free_port(), free_port(), free_port())
    port, dashboard, client = ports
    options = [
        "--head",
        f"--node-ip-address={ip}",
        f"--port={port}",
        f"--dashboard-port={dashboard}",
        f"--dashboard-host={ip}",
        f"--num-cpus={cpus}",
        f"--num-gpus={gpus}",
        f"--ray-client-server-port={client}",
    ]
    head = start_node("head", ip, options, {}, isolated, {})
    return Cluster(head, port, dashboard, client, isolated)


def make_bridge(cluster: Cluster) -> None:
    """The network that all nodes are on, in the head's namespace; then let the head begin."""
    enter = ["nsenter", f"--target={cluster.head.process.pid}", "--net", "--"]
    run([*enter, "ip", "link", "add", "br0", "type", "bridge"])
    run([*enter, "ip", "addr", "add", f"{cluster.head.ip}/24", "dev", "br0"])
    run([*enter, "ip", "link", "set", "br0", "up"])
    begin(cluster.head)


@contextlib.contextmanager
def raylets(*, workers: int = 2, cpus: int = 2, gpus: int = 0) -> Iterator[Cluster]:
    """A head that runs no trials, and workers, all alive; ended with the block."""
    cluster = start_head(cpus=0, gpus=0)
    try:
        if cluster.isolated:
            make_bridge(cluster)
        for _ in range(workers):
            cluster.add_worker(cpus=cpus, gpus=gpus)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.close()
