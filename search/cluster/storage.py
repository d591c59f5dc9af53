"""Where checkpoints go: a folder that all nodes share, or a URI that pyarrow opens (s3://, gs://, abfs://)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import pyarrow.fs

from search.text import first_line

PROBE = ".reachable-"  # folders of the check that every node can write and read


@dataclass(frozen=True)
class Storage:
    """One search's part of the storage. `uri` is an absolute path, or a URI with its `?options`."""

    uri: str

    @property
    def is_uri(self) -> bool:
        """Whether this is a service to ask, not a folder to look into."""
        return "://" in self.uri

    def below(self, *names: str) -> Storage:
        """A folder in it."""
        base, mark, query = self.uri.partition("?")
        return Storage("/".join([base.rstrip("/"), *names]) + mark + query)

    def open(self) -> tuple[pyarrow.fs.FileSystem, str]:
        """The file system and the path in it. Raises ValueError for a URI that cannot be opened."""
        try:
            filesystem, path = pyarrow.fs.FileSystem.from_uri(self.uri)
        except (OSError, ValueError, ImportError) as error:  # pyarrow.ArrowInvalid is a ValueError
            raise ValueError(f"storage {self.uri} cannot be opened ({first_line(error)})") from None
        return filesystem, str(path)

    def of(self, path: str) -> str:
        """The path or URI of what this storage's file system calls `path`."""
        if not self.is_uri:
            return path
        scheme, query = urlsplit(self.uri).scheme, urlsplit(self.uri).query
        return f"{scheme}://{path}" + (f"?{query}" if query else "")

    def write(self, name: str, content: bytes) -> None:
        """Write one small file. Raises OSError or ValueError."""
        filesystem, path = self.open()
        filesystem.create_dir(os.path.dirname(f"{path}/{name}"))
        with filesystem.open_output_stream(f"{path}/{name}") as stream:
            stream.write(content)

    def read(self, name: str) -> bytes:
        """The content of one small file. Raises OSError (FileNotFoundError) or ValueError."""
        filesystem, path = self.open()
        with filesystem.open_input_stream(f"{path}/{name}") as stream:
            return bytes(stream.read())

    def remove(self, name: str) -> None:
        """Delete a folder; one that is gone already is fine."""
        filesystem, path = self.open()
        with contextlib.suppress(OSError):
            filesystem.delete_dir(f"{path}/{name}")


def search_storage(storage: str | None, search_dir: Path, task: str) -> Storage:
    """The storage of one search: its own directory, or `<storage>/<task>/<name>`."""
    if storage is None:
        return Storage(str(search_dir.resolve()))
    base = storage if "://" in storage else str(Path(storage).expanduser().resolve())
    return Storage(base).below(task, search_dir.name)


@contextlib.contextmanager
def fetched(path_or_uri: str) -> Iterator[Path]:
    """A stored folder as a local one: itself, or a copy for the block. Raises OSError."""
    if "://" not in path_or_uri:
        yield Path(path_or_uri)
        return
    filesystem, path = Storage(path_or_uri).open()
    with TemporaryDirectory() as folder:
        pyarrow.fs.copy_files(path, folder, source_filesystem=filesystem)
        yield Path(folder)
