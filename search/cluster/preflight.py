"""What would go wrong with a search on this cluster, found out before it starts, a line each."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.filesize import decimal

from data_prep.prepared import PreparedData
from search.cluster.node_data import PACKED
from search.cluster.node_probe import Answer, Question, ask_nodes, free_bytes
from search.cluster.resources import Cluster, Node, living_nodes
from search.cluster.storage import PROBE, Storage
from search.records.versions import versions
from search.study.study import Study
from search.text import first_line

LEAST_FREE = 64 * 2**20  # bytes of disk below which a search would soon stop
WORKER_MEMORY = 800_000_000  # bytes: torch, torchvision and Ray in one worker process
BINDING = ("python", "torch", "torchvision", "ray", "pydantic")  # others change or break trials
SHOWN_NODES = 3


@dataclass(frozen=True)
class Finding:
    """One line."""

    level: Literal["ok", "warning", "error"]
    """`error`: the search is not started; `warning`: it is, but look; `ok`: as it should be."""
    text: str


def examine(
    study: Study,
    data: PreparedData,
    storage: Storage,
    cluster: Cluster,
    resources: dict[str, float],
) -> list[Finding]:
    """All that can be found out in seconds. A private local cluster is only asked for its disk."""
    findings = [trials_at_once(study, cluster, resources), *early_stopping(study)]
    findings += memory(cluster, resources)
    if cluster.local:
        return [*findings, *local_storage(storage)]
    nodes = [node for node in cluster.nodes if node.trials(resources) > 0]
    with driver_token(storage) as (token, trouble):
        if trouble is not None:
            return [*findings, Finding("error", trouble)]
        question = Question(
            str(data.root.resolve()), data.fingerprint, storage.uri, token, named_files(study)
        )
        told = ask_nodes(question, nodes)
        silent = {node.ip: a for node, a in zip(nodes, told, strict=True) if isinstance(a, str)}
        answers = [(n, a) for n, a in zip(nodes, told, strict=True) if isinstance(a, Answer)]
        findings += silent_nodes(silent)
        findings += storage_findings(storage, token, answers)
    findings += version_findings(answers)
    findings += data_findings(data, answers)
    findings += disk({n.ip: a.scratch_free for n, a in answers}, "for temporary files")
    free = {n.ip: a.storage_free for n, a in answers if a.storage_free is not None}
    return [*findings, *disk(free, f"in the storage {storage.uri}")]


def local_storage(storage: Storage) -> list[Finding]:
    """Whether this machine alone can keep checkpoints there."""
    if not storage.is_uri:
        return disk({"this machine": free_bytes(Path(storage.uri))}, "for results")
    with driver_token(storage) as (_, trouble):
        return [] if trouble is None else [Finding("error", trouble)]


def blocking(findings: Sequence[Finding]) -> str | None:
    """The reason not to start, None if there is none."""
    texts = [finding.text for finding in findings if finding.level == "error"]
    return "; ".join(texts) or None


def trials_at_once(study: Study, cluster: Cluster, resources: dict[str, float]) -> Finding:
    """How wide the search can run."""
    count = min(cluster.trials(resources), study.num_samples)
    nodes = sum(node.trials(resources) > 0 for node in cluster.nodes)
    gpus = f" and {resources['GPU']:g} GPU" if resources["GPU"] else ""
    each = f"{resources['CPU']:g} CPU{gpus}"
    places = "this machine" if cluster.local else f"{nodes} node{'s' if nodes > 1 else ''}"
    return Finding(
        "ok", f"resources: {study.num_samples} trials, {count} at once on {places}, {each} each"
    )


def early_stopping(study: Study) -> list[Finding]:
    """A scheduler that never compares two trials: each runs all of its epochs."""
    if study.scheduler == "none" or study.rungs:
        return []
    text = f"none, as trials end at epoch {study.num_epochs}, before any two are compared"
    advice = f"set grace_period (now {study.first_rung}) lower, or --num-epochs higher"
    return [Finding("warning", f"early stopping: {text}; {advice}")]


def memory(cluster: Cluster, resources: dict[str, float]) -> list[Finding]:
    """Nodes whose memory does not hold as many worker processes as their CPUs would start."""
    short = {}
    for node in cluster.nodes:
        count, there = node.trials(resources), node.resources.get("memory", float("inf"))
        if count * WORKER_MEMORY > there:
            short[node.ip] = (
                f"memory: {count} trials at once need about {decimal(count * WORKER_MEMORY)} for"
                f" their processes alone, Ray offers {decimal(int(there))}; raise --cpus-per-trial"
            )
    return group("warning", short, "")


@contextlib.contextmanager
def driver_token(storage: Storage) -> Iterator[tuple[str, str | None]]:
    """A folder in the storage with the driver's file: its name, and what went wrong."""
    token = PROBE + secrets.token_hex(8)
    try:
        storage.write(f"{token}/driver", token.encode())
    except (OSError, ValueError) as error:
        yield token, f"storage: {storage.uri} cannot be written from here ({first_line(error)})"
        return
    try:
        yield token, None
    finally:
        storage.remove(token)
        if not storage.is_uri:  # leave nothing behind where nothing was
            with contextlib.suppress(OSError):
                Path(storage.uri).rmdir()
                Path(storage.uri).parent.rmdir()


def storage_findings(
    storage: Storage, token: str, answers: Sequence[tuple[Node, Answer]]
) -> list[Finding]:
    """Whether every node read what the driver wrote, and the driver reads what every node wrote."""
    troubles = {}
    for node, answer in answers:
        trouble = answer.storage_error
        if trouble is None:
            try:
                found = storage.read(f"{token}/{node.node_id}") == node.node_id.encode()
            except (OSError, ValueError):
                found = False
            trouble = None if found else "writes there what cannot be seen from here"
        if trouble is not None:
            troubles[node.ip] = trouble
    if not troubles:
        return [Finding("ok", f"storage: {storage.uri} written and read from {len(answers)} nodes")]
    advice = "give --storage a folder that all nodes share, or a URI such as s3://bucket/folder"
    return [
        Finding("error", f"storage: {storage.uri} is not shared: {finding.text}; {advice}")
        for finding in group("error", troubles, "")
    ]


def silent_nodes(silent: dict[str, str]) -> list[Finding]:
    """Nodes that did not answer: gone by now, which a search survives, or unusable."""
    alive = {node.ip for node in living_nodes()}
    gone = {ip: "has just gone; the search goes on without it" for ip in silent if ip not in alive}
    unusable = {ip: text for ip, text in silent.items() if ip in alive}
    return [*group("warning", gone, ""), *group("error", unusable, "")]


def version_findings(answers: Sequence[tuple[Node, Answer]]) -> list[Finding]:
    """Packages that differ from the driver's."""
    ours = versions()
    levels: dict[Literal["warning", "error"], dict[str, str]] = {"error": {}, "warning": {}}
    for node, answer in answers:
        other = {name: text for name, text in answer.versions.items() if text != ours.get(name)}
        if other:
            has = ", ".join(
                f"{name} {text} (here {ours.get(name)})" for name, text in other.items()
            )
            levels["error" if set(other) & set(BINDING) else "warning"][node.ip] = f"has {has}"
    advice = "; install the same versions on all nodes, or use one image"
    findings = [
        *group("error", levels["error"], advice, "versions: "),
        *group("warning", levels["warning"], advice, "versions: "),
    ]
    names = ("python", "torch", "ray")
    equal = "versions: " + ", ".join(f"{name} {ours[name]}" for name in names) + " on all nodes"
    return findings or [Finding("ok", equal)]


def data_findings(data: PreparedData, answers: Sequence[tuple[Node, Answer]]) -> list[Finding]:
    """Where trials will find the data and the files that knobs name."""
    bytes_packed = sum(path.stat().st_size for path in (data.root / PACKED).iterdir())
    counts = {
        kind: sum(a.data == kind for _, a in answers) for kind in ("shared", "cached", "absent")
    }
    ways = {
        "shared": f"{counts['shared']} nodes see {data.root}",
        "cached": f"{counts['cached']} hold a copy",
        "absent": f"{counts['absent']} are sent {decimal(bytes_packed)} through the object store",
    }
    told = ", ".join(text for kind, text in ways.items() if counts[kind])
    findings = [Finding("ok", f"data: fingerprint {data.fingerprint[:12]}; {told}")]
    for node, answer in answers:
        if answer.data == "absent" and answer.cache_free < bytes_packed + LEAST_FREE // 8:
            room = f"{decimal(answer.cache_free)} free for a copy of {decimal(bytes_packed)}"
            text = f"data: node {node.ip} has {room}"
            findings.append(
                Finding("error", f"{text}; set RESNET_TUNE_CACHE there to a larger disk")
            )
    absent = {n.ip: f"does not have {', '.join(a.missing)}" for n, a in answers if a.missing}
    advice = "; copy it to the same path on every node, or to a shared folder"
    return [*findings, *group("error", absent, advice, "file: ")]


def named_files(study: Study) -> tuple[tuple[str, int], ...]:
    """Files that the configuration names by path, such as weights, with their sizes."""
    texts = [value for value in vars(study.config).values() if isinstance(value, str)]
    named = [item.partition(":")[2] for text in texts for item in text.split(",")]
    paths = [Path(text) for text in [*texts, *named] if "/" in text]
    return tuple((str(p), p.stat().st_size) for p in paths if p.is_file())


def disk(free: dict[str, int], purpose: str) -> list[Finding]:
    """Nodes whose disk is as good as full."""
    short = {
        place: f"has {decimal(count)} free {purpose}"
        for place, count in free.items()
        if count < LEAST_FREE
    }
    if short:
        return group("error", short, f"; at least {decimal(LEAST_FREE)} are needed", "disk: ")
    least = min(free.values(), default=None)
    return [] if least is None else [Finding("ok", f"disk: {decimal(least)} free {purpose}")]


def group(
    level: Literal["warning", "error"], by_node: dict[str, str], advice: str, kind: str = ""
) -> list[Finding]:
    """One finding for all nodes that say the same."""
    findings = []
    for text in dict.fromkeys(by_node.values()):
        nodes = [node for node, said in by_node.items() if said == text]
        names = ", ".join(nodes[:SHOWN_NODES]) + (" ..." if len(nodes) > SHOWN_NODES else "")
        who = names if names == "this machine" else f"node{'s' if len(nodes) > 1 else ''} {names}"
        findings.append(Finding(level, f"{kind}{who} {text}{advice}"))
    return findings


def line(finding: Finding) -> str:
    """As it is printed."""
    return f"{finding.level:<8}{finding.text}"
