"""Archives -> a folder, whole or not at all, and nothing outside it.

Only images, tables and archives within the archive are unpacked, each to a path that we make from
plain file names, so that no member's own path or link is ever followed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence, Set
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

from data_prep.archives import Member, bare_name, is_archive, read_archive
from data_prep.encoding import UnknownEncoding
from data_prep.files import is_plain_name, to_json, whole_folder, write_text
from data_prep.image_names import suffix
from data_prep.image_tree import MACOSX
from data_prep.progress import Track
from data_prep.tables import is_table

NESTED = "archives"  # where archives found inside an archive wait for their turn
RECORD = "unpacked.json"
PART_NAMES = ("train", "valid", "val", "test")  # an archive of that name holds that folder


class NoSpace(ValueError):
    """The disk is too full."""


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
        for archive in archives:
            left += unpack_one(archive, None, present, aside, track, encoding)
        nested = aside / NESTED
        for archive in sorted(path for path in nested.rglob("*") if path.is_file()):
            inside = archive.parent.relative_to(nested)
            left += unpack_one(archive, inside, present, aside, track, encoding)
        shutil.rmtree(nested, ignore_errors=True)
        write_text(aside / RECORD, to_json({**record, "left_packed": left}))
    return tuple(left)


def read_record(path: Path) -> dict[str, list[str]] | None:
    """What the folder was unpacked from; `None` when it is not known."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "left_packed" in record else None


def unpack_one(
    archive: Path,
    inside: Path | None,
    present: Set[str],
    folder: Path,
    track: Track,
    encoding: str | None,
) -> list[str]:
    """Unpack one archive; return its members left packed. An archive's errors become ValueError.

    `inside` is the folder that an archive within an archive lay in there.
    """
    try:
        chosen = partial(choose, archive, inside, present, folder)
        return read_archive(archive, chosen, track, encoding)
    except (OSError, NoSpace, UnknownEncoding):
        raise
    except Exception as error:  # the libraries raise almost any class on damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        advice = "download it again, or unpack it yourself"
        raise ValueError(f"archive {archive} cannot be unpacked ({reason}): {advice}") from None


def choose(
    archive: Path,
    inside: Path | None,
    present: Set[str],
    folder: Path,
    members: Sequence[Member],
) -> tuple[dict[str, Path], list[str]]:
    """Members to unpack -> their new paths, and those left packed with the reason."""
    targets: dict[str, Path] = {}
    left: list[str] = []
    used: set[Path] = set()
    size = 0
    for member in members:
        target = destination(member.name, archive, inside)
        reason = None
        if not is_inside(member.name):
            reason = "unsafe path"
        elif target is None or not present.isdisjoint(target.parts):
            continue
        elif not all(map(is_plain_name, target.parts)):
            reason = "hidden, or no plain name"
        elif member.is_link:
            reason = "a link"
        elif folder / target in used or (folder / target).exists():
            reason = "appears twice"
        if reason or target is None:
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


def check_space(archive: Path, folder: Path, size: int) -> None:
    """Raise NoSpace unless `size` bytes fit beside the folder."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise NoSpace(
            f"archive {archive} needs {size / 1e9:.1f} GB unpacked, {folder.parent} has"
            f" {free / 1e9:.1f} GB free: free some space or choose another --data"
        )
