"""Kaggle's archives -> a folder, whole or not at all, and nothing outside it.

Only members that are a part of the download are unpacked (`train/<file>`, the labels, archives
within the archive), each to a path that we make from its plain file name, so that no member's own
path or link is ever followed.
"""

from __future__ import annotations

import json
import queue
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

import py7zr
from py7zr.io import Py7zIO, WriterFactory

from data_prep.files import is_plain_name, to_json, whole_folder, write_text
from data_prep.progress import Track

ARCHIVE_SUFFIXES = (".zip", ".7z")
FOLDER_PARTS = ("train", "test")
NESTED = "archives"  # where archives found inside an archive wait for their turn
RECORD = "unpacked.json"
CHUNK = 1 << 20  # bytes

Parts = Mapping[str, Sequence[str]]
"""Part of the download -> the names it goes by."""


class NoSpace(ValueError):
    """The disk is too full."""


@dataclass(frozen=True)
class Member:
    """One file inside an archive."""

    name: str
    size: int
    is_link: bool


def unpack(archives: Sequence[Path], parts: Parts, folder: Path, track: Track) -> tuple[str, ...]:
    """Unpack the wanted parts into `folder`; return the members left packed, with the reason.

    Does nothing when the folder already holds these archives' parts. Raises ValueError when an
    archive is damaged, encrypted, or larger than the free space.
    """
    record = {
        "archives": [[str(a), a.stat().st_size, a.stat().st_mtime_ns] for a in archives],
        "parts": sorted(parts),
    }
    known = read_record(folder / RECORD)
    if known is not None and all(known.get(key) == value for key, value in record.items()):
        return tuple(known["left_packed"])
    left: list[str] = []
    with whole_folder(folder) as partial:
        for archive in archives:
            left += unpack_one(archive, parts, partial, track)
        nested = partial / NESTED
        for archive in sorted(nested.iterdir()) if nested.is_dir() else []:
            left += unpack_one(archive, parts, partial, track)
        shutil.rmtree(nested, ignore_errors=True)
        write_text(partial / RECORD, to_json({**record, "left_packed": left}))
    return tuple(left)


def read_record(path: Path) -> dict[str, list[str]] | None:
    """What the folder was unpacked from; `None` when it is not known."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "left_packed" in record else None


def unpack_one(archive: Path, parts: Parts, folder: Path, track: Track) -> list[str]:
    """Unpack one archive; return its members left packed. An archive's errors become ValueError."""
    unpack_kind = unpack_7z if archive.suffix.lower() == ".7z" else unpack_zip
    try:
        return unpack_kind(archive, parts, folder, track)
    except (OSError, NoSpace):
        raise
    except Exception as error:  # both libraries raise almost any class on damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        advice = "download it again, or unpack it yourself"
        raise ValueError(f"archive {archive} cannot be unpacked ({reason}): {advice}") from None


def choose(
    archive: Path, members: Sequence[Member], parts: Parts, folder: Path
) -> tuple[dict[str, Path], list[str]]:
    """Members to unpack -> their new paths, and those left packed with the reason."""
    targets: dict[str, Path] = {}
    left: list[str] = []
    used: set[Path] = set()
    size = 0
    for member in members:
        if not is_inside(member.name):
            left.append(f"{archive.name}: {member.name!r}: unsafe path")
            continue
        target = destination(member.name, archive, parts)
        if target is None:
            continue
        if member.is_link or folder / target in used:
            reason = "a link" if member.is_link else "appears twice"
            left.append(f"{archive.name}: {member.name!r}: {reason}")
            continue
        used.add(folder / target)
        targets[member.name] = folder / target
        size += member.size
    check_space(archive, folder, size)
    for path in {path.parent for path in used}:
        path.mkdir(parents=True, exist_ok=True)
    return targets, left


def is_inside(name: str) -> bool:
    """Whether a member's path stays inside the folder it is unpacked to."""
    windows = PureWindowsPath(name)  # splits at both kinds of slash
    return not (windows.drive or windows.root or ".." in windows.parts or "\0" in name)


def destination(name: str, archive: Path, parts: Parts) -> PurePosixPath | None:
    """Where a member goes, from its folder's and its own name; `None`: it is not wanted."""
    *folders, base = PureWindowsPath(name).parts or ("",)
    if not is_plain_name(base) or "__MACOSX" in folders:
        return None
    parent = folders[-1] if folders else archive.stem  # train.zip may hold bare files
    for part, names in parts.items():
        if part in FOLDER_PARTS and parent in names:
            return PurePosixPath(parent, base)
        if part not in FOLDER_PARTS and base in names:
            return PurePosixPath(base)
    if archive.parent.name != NESTED and base.lower().endswith(ARCHIVE_SUFFIXES):
        return PurePosixPath(NESTED, base)
    return None


def check_space(archive: Path, folder: Path, size: int) -> None:
    """Raise NoSpace unless `size` bytes fit beside the folder."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise NoSpace(
            f"archive {archive} needs {size / 1e9:.1f} GB unpacked, {folder.parent} has"
            f" {free / 1e9:.1f} GB free: free some space or choose another --data"
        )


def unpack_zip(archive: Path, parts: Parts, folder: Path, track: Track) -> list[str]:
    """Unpack a zip archive; a damaged member is left packed."""
    with zipfile.ZipFile(archive) as opened:
        infos = [info for info in opened.infolist() if not info.is_dir()]
        members = [
            Member(info.filename, info.file_size, stat.S_ISLNK(info.external_attr >> 16))
            for info in infos
        ]
        targets, left = choose(archive, members, parts, folder)
        for name, path in track(targets.items(), len(targets), f"unpack {archive.name}"):
            try:
                with opened.open(name) as packed, path.open("wb") as file:
                    shutil.copyfileobj(packed, file, CHUNK)
            except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                path.unlink()
                left.append(f"{archive.name}: {name!r}: damaged ({error})")
    return left


def unpack_7z(archive: Path, parts: Parts, folder: Path, track: Track) -> list[str]:
    """Unpack a 7z archive, which is one stream: a damaged one is a py7zr error."""
    # Handed an open file, py7zr stays in one thread, so that one member is written at a time.
    with archive.open("rb") as file, py7zr.SevenZipFile(file) as opened:
        members = [
            Member(info.filename, info.uncompressed, info.is_symlink)
            for info in opened.list()
            if not info.is_directory
        ]
        targets, left = choose(archive, members, parts, folder)
        writers = Writers(targets)
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(extract, opened, writers)
            try:
                for _ in track(written(writers, done), len(targets), f"unpack {archive.name}"):
                    pass
            except BaseException:
                writers.stopped = True  # else leaving would wait for the whole archive
                raise
            done.result()
    return left


def extract(opened: py7zr.SevenZipFile, writers: Writers) -> None:
    """Write the wanted members; runs beside the thread that shows the progress."""
    try:
        if writers.targets:
            opened.extract(targets=writers.names, factory=writers)
    finally:
        writers.close()
        writers.begun.put(None)


def written(writers: Writers, done: Future[None]) -> Iterator[str]:
    """The members' names, each when its turn has come."""
    while (name := writers.begun.get()) is not None:
        yield name
    done.result()


class Writers(WriterFactory):  # type: ignore[misc]
    """Opens the file of each member when py7zr comes to it, and closes the one before."""

    def __init__(self, targets: Mapping[str, Path]) -> None:
        self.targets = {str(PurePosixPath(name)): path for name, path in targets.items()}
        self.names = list(targets)
        self.begun: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.file: BinaryIO | None = None
        self.stopped = False

    def create(self, filename: str) -> MemberFile:
        if self.stopped:
            raise EOFError("stopped")
        self.close()
        if filename not in self.targets:
            raise py7zr.exceptions.Bad7zFile(f"unexpected member {filename}")
        self.file = self.targets[filename].open("wb")
        self.begun.put(filename)
        return MemberFile(self.file)

    def close(self) -> None:
        """Close the last member's file."""
        if self.file is not None:
            self.file.close()


class MemberFile(Py7zIO):  # type: ignore[misc]
    """A file in the words of py7zr, which seeks after the last byte and so must find it open."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def write(self, s: bytes | bytearray) -> int:
        return self.file.write(s)

    def read(self, size: int | None = None) -> bytes:
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def flush(self) -> None:
        self.file.flush()

    def size(self) -> int:
        return self.file.tell()
