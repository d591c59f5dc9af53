"""Members of a zip, 7z or tar archive -> the files that were chosen for them."""

from __future__ import annotations

import errno
import lzma
import os
import queue
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import py7zr
from py7zr.io import Py7zIO, WriterFactory

from data_prep.encoding import decode_table
from data_prep.progress import Track
from data_prep.tar_members import TarArchive

UTF8_FLAG = 0x800  # of a member of a zip archive: its name is UTF-8
CHUNK = 1 << 20  # bytes
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
SUFFIXES = (".zip", ".7z", *TAR_SUFFIXES)
DAMAGED = (  # what reading a damaged member raises
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError),
    NotImplementedError,  # by zipfile, of a way of compression that it cannot undo
    *(OverflowError, ValueError, struct.error),
)


@dataclass(frozen=True)
class Member:
    """One file inside an archive."""

    name: str
    size: int
    is_link: bool


Choose = Callable[[Sequence[Member]], tuple[Mapping[int, Path], list[str]]]
"""Members -> their files to write, by their place, and those left packed with the reason."""


def is_archive(name: str) -> bool:
    """Whether a file is an archive by its name."""
    return name.lower().endswith(SUFFIXES)


def bare_name(archive: Path) -> str:
    """The archive's name without its suffix: `train` of `train.tar.gz`."""
    suffixes = [suffix for suffix in SUFFIXES if archive.name.lower().endswith(suffix)]
    return archive.name[: -max(map(len, suffixes), default=0) or None]


def is_of_the_disk(error: Exception) -> bool:
    """Whether an error is no damage of the archive, which libraries tell without a number.

    Only of a place that cannot be, to which a damaged archive sends them, the system speaks.
    """
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


def read_archive(
    archive: Path, choose: Choose, track: Track, encoding: str | None = None
) -> list[str]:
    """Write the members that `choose` wants; return those left packed, with the reason.

    `encoding` is that of names in a zip archive that are not marked as UTF-8.
    An archive's own errors are of almost any class.
    """
    name = archive.name.lower()
    if name.endswith(".7z"):
        return unpack_7z(archive, choose, track)
    if name.endswith(TAR_SUFFIXES):
        return unpack_tar(archive, choose, track)
    return unpack_zip(archive, choose, track, encoding)


def unpack_zip(
    archive: Path, choose: Choose, track: Track, encoding: str | None = None
) -> list[str]:
    """Unpack a zip archive; a damaged member is left packed."""
    with zipfile.ZipFile(archive) as opened:
        infos = [info for info in opened.infolist() if not info.is_dir()]
        members = [
            Member(name, info.file_size, stat.S_ISLNK(info.external_attr >> 16))
            for name, info in zip(member_names(archive, infos, encoding), infos, strict=True)
        ]
        targets, left = choose(members)
        for place, path in track(targets.items(), len(targets), f"unpack {archive.name}"):
            try:
                with opened.open(infos[place]) as packed, path.open("wb") as file:
                    shutil.copyfileobj(packed, file, CHUNK)
            except (*DAMAGED, OSError) as error:
                if is_of_the_disk(error):
                    raise
                path.unlink(missing_ok=True)
                left.append(f"{archive.name}: {members[place].name!r}: damaged ({error})")
    return left


def member_names(
    archive: Path, infos: Sequence[zipfile.ZipInfo], encoding: str | None
) -> list[str]:
    """The members' names; those that are not marked as UTF-8 are in an encoding of their time.

    Python takes them for cp437. Raises UnknownEncoding where it cannot be told.
    """
    names = [info.filename for info in infos]
    old = [
        place
        for place, info in enumerate(infos)
        if not info.flag_bits & UTF8_FLAG and not info.filename.isascii()
    ]
    data = b"\n".join(names[place].encode("cp437") for place in old)
    text, _ = decode_table(data, f"names in {archive}", encoding, trust_utf8=True)
    for place, name in zip(old, text.split("\n"), strict=bool(old)):
        names[place] = name
    return names


def unpack_tar(archive: Path, choose: Choose, track: Track) -> list[str]:
    """Unpack a tar archive, compressed or not."""
    with TarArchive.open(archive) as opened:
        infos = opened.files(archive)
        targets, left = choose([Member(i.name, i.size, not i.isreg()) for i in infos])
        for place, path in track(targets.items(), len(targets), f"unpack {archive.name}"):
            packed = opened.extractfile(infos[place])
            assert packed is not None
            with packed, path.open("wb") as file:
                shutil.copyfileobj(packed, file, CHUNK)
        if not opened.ended:
            left.append(f"{archive.name}: no mark of its end: perhaps it is not whole")
    return left


def unpack_7z(archive: Path, choose: Choose, track: Track) -> list[str]:
    """Unpack a 7z archive, which is one stream: a damaged one is a py7zr error."""
    # Handed an open file, py7zr stays in one thread, so that one member is written at a time.
    with archive.open("rb") as file, py7zr.SevenZipFile(file) as opened:
        members = [
            Member(info.filename, info.uncompressed, info.is_symlink)
            for info in opened.list()
            if not info.is_directory
        ]
        targets, left = choose(members)
        writers = Writers({members[place].name: path for place, path in targets.items()})
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
        path = self.targets.pop(filename, None)  # a second one of a name is another's
        self.file = open(os.devnull if path is None else path, "wb")
        if path is not None:
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
