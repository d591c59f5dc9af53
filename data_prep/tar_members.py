"""A tar archive whose headers are a stranger's: they may lie about every size and length.

Python's own reader goes back for ever at a negative size, takes a long name of any length into
memory and takes quadratic time over digits in it; a damaged header it takes for the end.
"""

from __future__ import annotations

import re
import tarfile
from pathlib import Path
from typing import IO, Any

from data_prep.files import most_bytes

MAX_HEADER = 1 << 20  # bytes of a long name, or of what pax says of a member
MAX_MEMBERS = 1 << 21  # of which Python's objects take 2.5 GB
RECORD = re.compile(rb"(\d{1,7}) [^=\n]{1,1000}=")  # of pax: its length, name and value
DIGITS = re.compile(rb"\d{40}")


class Header(tarfile.TarInfo):
    """A header that is refused where it would take for ever, or the memory, or is damaged."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Header:  # type: ignore[override, unused-ignore]
        """The next member. Raises ReadError."""
        assert isinstance(archive, TarArchive)
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined, unused-ignore]
            archive.ended = True
            raise
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined, unused-ignore]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {archive.offset:,}") from None

    def _block(self, count: int) -> int:
        """How many bytes hold so many."""
        if count < 0:
            raise tarfile.ReadError(f"{self.name!r} has {count:,} bytes")
        return int(super()._block(count))  # type: ignore[misc]

    def _proc_gnulong(self, archive: TarArchive) -> Any:
        """A member after its long name."""
        self.check_length()
        return super()._proc_gnulong(archive)  # type: ignore[misc]

    def _proc_pax(self, archive: TarArchive) -> Any:
        """A member after what pax says of it."""
        self.check_length()
        told = archive.fileobj.read(self._block(self.size))
        check_records(told[: self.size])
        archive.fileobj = Again(archive, told)
        return super()._proc_pax(archive)  # type: ignore[misc]

    def check_length(self) -> None:
        """Raise ReadError for a header that is longer than any real one."""
        if self.size > MAX_HEADER:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")


class Again:
    """Hands out what was read already; then the archive's own file is in its place again."""

    def __init__(self, archive: TarArchive, told: bytes) -> None:
        self.archive, self.file, self.told = archive, archive.fileobj, told

    def read(self, _: int) -> bytes:
        """What was read."""
        self.archive.fileobj = self.file
        return self.told


def check_records(told: bytes) -> None:
    """Raise ReadError unless each record has the length that it claims."""
    place = 0
    while told[place : place + 1].strip(b"\0"):
        found = RECORD.match(told, place)
        end = place + int(found[1]) if found else 0
        if found is None or end < found.end() or told[end - 1 : end] != b"\n":
            raise tarfile.ReadError("a header that is not as pax has them")
        place = end
    if DIGITS.search(told):
        raise tarfile.ReadError("a header with a number of more than 39 digits")


class TarArchive(tarfile.TarFile):
    """A tar archive, compressed or not."""

    tarinfo = Header
    fileobj: IO[bytes] | Any
    ended = False
    """Whether the end was marked as such, when all members were read."""

    def files(self, archive: Path) -> list[tarfile.TarInfo]:
        """All members but folders. Raises ReadError for too many, and for a bomb."""
        most = most_bytes(archive)
        for number, member in enumerate(self, start=1):
            if number > MAX_MEMBERS:
                raise tarfile.ReadError(f"more than {MAX_MEMBERS:,} members")
            if member.offset > most:
                raise tarfile.ReadError(f"more than {most / 1e9:.1f} GB, far more than its size")
        return [member for member in self.getmembers() if not member.isdir()]
