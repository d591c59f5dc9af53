"""Retraining and prediction on a cluster: one Ray task with a trial's resources.

The driver may sit on a head without CPUs or GPUs, and its disk need not be shared: the files of the
search that the work reads are sent along, and what it writes comes back.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import ray

from data_prep.prepared import PreparedData
from search.cluster.connection import connected
from search.cluster.node_data import NodeData, serve
from search.cluster.resources import trial_resources
from search.errors import UserError, mistake
from search.study.study import Study
from search.text import first_line

T = TypeVar("T")
Work = Callable[[Path, Path], T]
"""Gets a search folder of its own and the prepared data, on whatever node it runs."""
Files = dict[str, bytes]
"""Path below the search folder -> content."""
RETRIES = 2  # on another node, after the process or its node has died


def away(
    address: str,
    study: Study,
    data: PreparedData,
    name: str,
    work: Work[T],
    files: Mapping[str, bytes],
) -> tuple[T, Files]:
    """The work's result and the files below `retrain/` that it leaves, done on a node.

    `name` is the search's, and of the folder that the work is given there.

    Raises UserError in one line where it cannot be done there.
    """
    with connected(address) as cluster:
        resources = trial_resources(study, cluster)
        server = serve(data.root)
        node_data = NodeData(str(data.root.resolve()), data.fingerprint)
        kind = {"num_cpus": resources["CPU"], "num_gpus": resources["GPU"], "max_retries": RETRIES}
        try:
            done = ray.get(ray.remote(**kind)(there).remote(name, work, dict(files), node_data))
        except ray.exceptions.RayTaskError:
            raise  # a fault of the program, with the node's traceback
        except ray.exceptions.RayError as error:
            raise UserError(f"the task on the cluster died: {first_line(error)}") from None
        del server
    if isinstance(done, str):
        raise UserError(done)
    result: tuple[T, Files] = done
    return result


def there(name: str, work: Work[T], files: Files, node_data: NodeData) -> tuple[T, Files] | str:
    """The work, on the node; the text of an error that the user can put right."""
    with tempfile.TemporaryDirectory() as above:
        folder = Path(above, name)
        folder.mkdir()
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        try:
            result = work(folder, Path(node_data.here()))
        except Exception as error:
            text = mistake(error)
            if text is None:
                raise
            return text
        return result, contents(folder, "retrain")


def contents(folder: Path, below: str = "") -> Files:
    """The files of a folder, or of a part of it."""
    paths = sorted(path for path in (folder / below).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
