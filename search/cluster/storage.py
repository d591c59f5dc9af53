"""Where checkpoints go: a folder that all nodes share, or a URI that pyarrow opens (s3://, gs://, abfs://)."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.fs

from search.records.folder import CONFIRM
from search.text import first_line

CHECKPOINT = re.compile(r"ray/t\d+-[\w-]+/checkpoint_\d+", re.ASCII)  # as Ray Tune lays them out
OWNER = "owner"  # file with the start of the search that keeps its checkpoints there
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
        base, mark, query = self.uri.partition("?") if self.is_uri else (self.uri, "", "")
        return Storage("/".join([base.rstrip("/"), *names]) + mark + query)

    def open(self) -> tuple[pyarrow.fs.FileSystem, str]:
        """The file system and the path in it. Raises ValueError for a URI that cannot be opened."""
        return opened(self.uri)

    def inside(self, path: str | None) -> str | None:
        """The name within this storage of a checkpoint that a file speaks of; None if it has none.

        Whatever the file says, a name leads to a checkpoint's folder of this very storage: the end
        of a path or URI (versions before wrote whole ones) alone counts, and no link leads out.
        """
        told = path or ""  # of a URI its `?options` do not count; a folder may have such a name
        ends = ("/".join(text.split("/")[-3:]) for text in (told, told.partition("?")[0]))
        name = next(filter(CHECKPOINT.fullmatch, ends), None)
        if name is None:
            return None
        filesystem, base = self.open()
        local = isinstance(filesystem, pyarrow.fs.LocalFileSystem)
        return None if local and leads_out(Path(base), name) else name

    def find(self, path: str | None) -> str | None:
        """The path or URI of a checkpoint that a file speaks of; None where it is gone.

        Raises OSError or ValueError when the storage is out of reach.
        """
        name = self.inside(path)
        if name is None:
            return None
        filesystem, base = self.open()
        found = filesystem.get_file_info(f"{base}/{name}")
        return self.below(name).uri if found.type == pyarrow.fs.FileType.Directory else None

    def discard(self, path: str | None) -> None:
        """Delete a checkpoint of this storage, and nothing else; one that is gone is fine."""
        name = self.inside(path)
        if name is not None:
            self.remove(name)

    def size(self, path: str | None) -> int:
        """Bytes of a checkpoint; 0 of one that is gone or out of reach."""
        name = self.inside(path)
        if name is None:
            return 0
        filesystem, base = self.open()
        try:
            files = filesystem.get_file_info(
                pyarrow.fs.FileSelector(f"{base}/{name}", recursive=True)
            )
        except OSError:
            return 0
        return sum(file.size or 0 for file in files)

    def mark(self, owner: str) -> None:
        """Note whose storage this is. Raises OSError or ValueError."""
        self.write(OWNER, owner.encode())

    def belongs_to(self, owner: str) -> bool:
        """Whether that note stands here. Raises OSError or ValueError when it is out of reach."""
        try:
            return self.read(OWNER) == owner.encode()
        except FileNotFoundError:
            return False

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


@functools.lru_cache(maxsize=8)
def opened(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """A file system and the path in it; connecting to a service takes a while."""
    try:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(uri)
    except (OSError, ValueError, ImportError) as error:  # pyarrow.ArrowInvalid is a ValueError
        raise ValueError(f"storage {uri} cannot be opened ({first_line(error)})") from None
    return filesystem, str(path)


def leads_out(root: Path, name: str) -> bool:
    """Whether links make more of a local folder than what lies below `root`."""
    folder = root / name
    if not folder.resolve().is_relative_to(root.resolve()):
        return True
    return any(entry.is_symlink() for entry in folder.rglob("*"))


def search_storage(storage: str | None, search_dir: Path, task: str) -> Storage:
    """The storage of one search: its own directory, or `<storage>/<task>/<name>`.

    What runs a search's best again has its part below that search's.
    """
    if storage is None:
        return Storage(str(search_dir.resolve()))
    above = [search_dir.resolve().parent.name] if search_dir.name == CONFIRM else []
    return Storage(whole_path(storage)).below(task, *above, search_dir.name)


def whole_path(storage: str) -> str:
    """The storage by a name that means the same in every folder."""
    return storage if "://" in storage else str(Path(storage).expanduser().resolve())


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
