"""Archives -> a folder, whole or not at all, and nothing outside it.

Only images, tables and archives within the archive are unpacked, each to a path that we make from
plain file names, so that no member's own path or link is ever followed.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

from data_prep.archives import Member, bare_name, is_archive, is_of_the_disk, read_archive
from data_prep.encoding import UnknownEncoding
from data_prep.files import from_json, is_plain_name, most_bytes, to_json, whole_folder, write_text
from data_prep.image_names import suffix
from data_prep.image_tree import MACOSX
from data_prep.images import MAX_BYTES
from data_prep.progress import Track
from data_prep.tables import MAX_TABLE, is_table

NESTED = ".archives"  # where archives found inside an archive wait: no member's name has the dot
RECORD = "unpacked.json"
PART_NAMES = ("train", "valid", "val", "test")  # an archive of that name holds that folder
MAX_PATH = 1000  # bytes of a member's path; file systems allow 4,096 with all folders above


class NoSpace(ValueError):
    """The disk is too full, or the archive a bomb."""


@dataclass
class Room:
    """What the archives may fill, together with those inside them."""

    folder: Path
    left: int
    """Bytes."""

    def take(self, archive: Path, size: int) -> None:
        """Raise NoSpace unless so many bytes fit, here and on the disk."""
        self.left -= size
        if self.left < 0:
            raise NoSpace(
                f"archive {archive} holds {size / 1e9:.1f} GB, far more than its size says: it may"
                " be made to fill disks; unpack it yourself if it is not"
            )
        free = shutil.disk_usage(self.folder).free
        if size > free:
            raise NoSpace(
                f"archive {archive} needs {size / 1e9:.1f} GB unpacked, {self.folder.parent} has"
                f" {free / 1e9:.1f} GB free: free some space or choose another --data"
            )


def unpack(
    archives: Sequence[Path],
    present: Set[str],
    folder: Path,
    track: Track,
    encoding: str | None = None,
) -> tuple[str, ...]:
    """Unpack the archives into `folder`; return the members left packed, with the reason.

    Folders and files whose names are `present` elsewhere are left out. Does nothing when the folder
    already holds these archives' content. `encoding` is that of
    names not in UTF-8. Raises ValueError when an archive is damaged, encrypted,
    or larger than the free space.
    """
    record = {
        "archives": [[str(a), a.stat().st_size, a.stat().st_mtime_ns] for a in archives],
        "present": sorted(present),
        "encoding": encoding,
    }
    known = read_record(folder / RECORD)
    if known is not None and all(known.get(key) == value for key, value in record.items()):
        return tuple(known["left_packed"])
    left: list[str] = []
    with whole_folder(folder) as aside:
        room = Room(aside, sum(map(most_bytes, archives)))
        for archive in archives:
            left += unpack_one(archive, None, present, room, track, encoding)
        nested = aside / NESTED
        for archive in sorted(path for path in nested.rglob("*") if path.is_file()):
            inside = archive.parent.relative_to(nested)
            left += unpack_one(archive, inside, present, room, track, encoding)
        shutil.rmtree(nested, ignore_errors=True)
        write_text(aside / RECORD, to_json({**record, "left_packed": left}))
    return tuple(left)


def read_record(path: Path) -> dict[str, list[str]] | None:
    """What the folder was unpacked from; `None` when it is not known."""
    try:
        record = from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "left_packed" in record else None


def unpack_one(
    archive: Path,
    inside: Path | None,
    present: Set[str],
    room: Room,
    track: Track,
    encoding: str | None,
) -> list[str]:
    """Unpack one archive; return its members left packed. An archive's errors become ValueError.

    `inside` is the folder that an archive within an archive lay in there.
    """
    try:
        chosen = partial(choose, archive, inside, present, room)
        return read_archive(archive, chosen, track, encoding)
    except (NoSpace, UnknownEncoding):
        raise
    except Exception as error:  # the libraries raise almost any class on damaged bytes
        if is_of_the_disk(error):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        advice = "download it again, or unpack it yourself"
        raise ValueError(f"archive {archive} cannot be unpacked ({reason}): {advice}") from None


def choose(
    archive: Path,
    inside: Path | None,
    present: Set[str],
    room: Room,
    members: Sequence[Member],
) -> tuple[dict[int, Path], list[str]]:
    """Places of the members to unpack -> their new paths, and those left packed with the reason."""
    targets: dict[int, Path] = {}
    left: list[str] = []
    used: set[Path] = set()
    folders: set[Path] = set()
    size = 0
    for place, member in enumerate(members):
        target = destination(member.name, archive, inside)
        if is_inside(member.name) and (target is None or not present.isdisjoint(target.parts)):
            continue
        path = room.folder / target if target is not None else room.folder
        reason = refused(member, target)
        if reason is None and (path in used or path.exists()):
            reason = "appears twice"
        above = path.parents[: len(target.parts) - 1] if target is not None else ()
        unseen = [folder for folder in above if folder not in folders]
        if reason is None and (path in folders or any(f in used or f.is_file() for f in unseen)):
            reason = "a file in the place of a folder"
        if reason is not None:
            left.append(f"{archive.name}: {member.name!r}: {reason}")
            continue
        used.add(path)
        folders.update(unseen)
        targets[place] = path
        size += member.size
    room.take(archive, size)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    return targets, left


def refused(member: Member, target: PurePosixPath | None) -> str | None:
    """Why a member is not unpacked, whatever else there is; None where nothing speaks against it.

    What is too large to be read is not worth the disk.
    """
    if target is None or not is_inside(member.name):
        return "unsafe path"
    if not all(map(is_plain_name, target.parts[is_archive(target.name) :])):  # NESTED is our own
        return "hidden, or no plain name"
    if len(str(target).encode()) > MAX_PATH:
        return "its path is too long"
    if member.is_link:
        return "a link or a device"
    most = MAX_BYTES if suffix(target.name) else MAX_TABLE if is_table(target.name) else None
    return "too large" if most is not None and member.size > most else None


def is_inside(name: str) -> bool:
    """Whether a member's path stays inside the folder it is unpacked to."""
    windows = PureWindowsPath(name)  # splits at both kinds of slash
    return not (windows.drive or windows.root or ".." in windows.parts or "\0" in name)


def destination(name: str, archive: Path, inside: Path | None) -> PurePosixPath | None:
    """Where a member goes; `None`: it is neither an image nor a table nor an archive.

    Images without a folder go to one of the archive's name: `cat.zip` may hold bare files, and
    `train.zip` bare class folders.
    """
    *folders, base = PureWindowsPath(name).parts or ("",)
    if base.startswith(".") or MACOSX in folders:
        return None
    if inside is None and is_archive(base):
        return PurePosixPath(NESTED, *folders, base)
    above = inside.parts if inside is not None else ()
    if suffix(base):
        own = bare_name(archive)
        wrapped = folders and (own.lower() not in PART_NAMES or own in folders)
        return PurePosixPath(*above, *([] if wrapped else [own]), *folders, base)
    return PurePosixPath(*above, *folders, base) if is_table(base) else None
