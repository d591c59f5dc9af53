"""Archives that lie about sizes, paths and kinds, that fill disks, or that are not whole."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import subprocess
import sys
import tarfile
import textwrap
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import py7zr
import pytest

from data_prep import tar_members, unpack
from data_prep.layout import Layout
from data_prep.prepare import prepare
from tests.downloads import png

ANY = Layout(task="any", image_size=4)
GOOD = {f"train/{label}/{n}.png": png(10 * k + n) for k, label in enumerate("ab") for n in range(4)}
HOSTILE = {
    "../up.png": "unsafe path",
    "train/../../up.png": "unsafe path",
    "/abs.png": "unsafe path",
    "//server/share/x.png": "unsafe path",
    "..\\up.png": "unsafe path",
    "C:\\x.png": "unsafe path",
    "C:x.png": "unsafe path",
    "train/a/.hid/x.png": "hidden, or no plain name",
    "train/a\nb/x.png": "hidden, or no plain name",
    f"train/{'x' * 300}/x.png": "hidden, or no plain name",
    f"train/{'d/' * 600}x.png": "its path is too long",
    "train/a/0.png/x.png": "a file in the place of a folder",
    "train/a/0.png": "appears twice",
    "train/a//1.png": "appears twice",
}
Write = Callable[[Path, Mapping[str, bytes]], None]


def write_zip(path: Path, files: Mapping[str, bytes], again: Mapping[str, bytes] = {}) -> None:
    """A zip archive; names are written as they are."""
    with zipfile.ZipFile(path, "w") as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that come twice
        for name, data in [*files.items(), *again.items()]:
            opened.writestr(zipfile.ZipInfo(name), data)


def write_tar(path: Path, files: Mapping[str, bytes], again: Mapping[str, bytes] = {}) -> None:
    """A tar archive, packed as its suffix says."""
    pack: dict[str, Any] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as opened:
        for name, data in [*files.items(), *again.items()]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))
    path.write_bytes(pack.get(path.suffix, bytes)(plain.getvalue()))


def write_7z(path: Path, files: Mapping[str, bytes], again: Mapping[str, bytes] = {}) -> None:
    """A 7z archive."""
    with py7zr.SevenZipFile(path, "w") as opened:
        for name, data in [*files.items(), *again.items()]:
            opened.writef(io.BytesIO(data), name)


def left_packed(source: Path, tmp_path: Path) -> list[str]:
    """What `prepare` left packed; all good images are there, and nothing is anywhere else."""
    before = {path for path in tmp_path.rglob("*")}
    root = tmp_path / "data" / "any"
    data = prepare(ANY, source, root)
    new = {path for path in tmp_path.rglob("*")} - before - {tmp_path / "data"}
    assert all(root == path or root in path.parents for path in new)
    assert not any(path.is_symlink() for path in new)
    assert len(data.split) == len(GOOD)
    assert json.loads((root / "audit.json").read_text())["counts"]["left_packed"] == len(
        left := json.loads((root / "audit.json").read_text())["skipped"]["left_packed"]
    )
    found: list[str] = left
    return found


@pytest.mark.parametrize("name", ["all.zip", "all.tar", "all.tar.gz", "all.7z"])
def test_hostile_names_are_left_packed_and_counted(name: str, tmp_path: Path) -> None:
    source = tmp_path / name
    hostile = dict(HOSTILE)
    if name.endswith("7z"):  # py7zr refuses to write these
        hostile = {k: v for k, v in hostile.items() if ".." not in k and k[0] != "/"}
    again = {member: png(99) for member in hostile}
    write: dict[str, Callable[..., None]] = {"zip": write_zip, "7z": write_7z}
    write.get(name.split(".")[-1], write_tar)(source, GOOD, again)
    left = left_packed(source, tmp_path)
    expected = [f"all.{name[4:]}: {member!r}: {reason}" for member, reason in hostile.items()]
    if name.endswith("7z"):
        assert len(left) == len(expected)
    else:
        assert left == sorted(expected)


LINKS = {
    "symlink": (tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": (tarfile.LNKTYPE, "train/a/0.png"),
    "device": (tarfile.CHRTYPE, ""),
    "block device": (tarfile.BLKTYPE, ""),
    "pipe": (tarfile.FIFOTYPE, ""),
}


@pytest.mark.parametrize("kind", LINKS)
def test_links_devices_and_pipes_of_a_tar_are_left_packed(kind: str, tmp_path: Path) -> None:
    source = tmp_path / "all.tar"
    write_tar(source, GOOD)
    with tarfile.open(source, "a") as opened:
        link, folder = (tarfile.TarInfo(f"train/a/{n}") for n in ("x.png", "out"))
        link.type, link.linkname = LINKS[kind]
        folder.type, folder.linkname = tarfile.SYMTYPE, str(tmp_path)
        opened.addfile(link)
        opened.addfile(folder)  # no image: neither unpacked nor counted
        through = tarfile.TarInfo("train/a/out/y.png")  # through the link, were it one
        through.size = 4
        opened.addfile(through, io.BytesIO(b"evil"))
    root = tmp_path / "data" / "any"
    data = prepare(ANY, source, root)
    assert len(data.split) == len(GOOD)
    record = json.loads((root / "audit.json").read_text())
    assert record["skipped"]["left_packed"] == ["all.tar: 'train/a/x.png': a link or a device"]
    assert record["counts"]["undecodable"] == 1
    assert not (tmp_path / "y.png").exists()


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header of a tar archive with any size, as base 256."""
    info = tarfile.TarInfo(name)
    info.type = kind
    buffer = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    buffer[124:136] = (size & ((1 << 96) - 1)).to_bytes(12, "big")
    buffer[124] |= 0x80
    buffer[148:156] = b" " * 8
    buffer[148:156] = f"{sum(buffer):06o}\0 ".encode()
    return bytes(buffer)


def pax(text: bytes) -> bytes:
    """A header of pax with this in it, and the member that it is of."""
    return header("x", len(text), tarfile.XHDTYPE) + text.ljust(-len(text) // -512 * 512, b"\0")


LIES = {
    "a size below zero": header("train/a/x.png", -512),
    "a size of pax below zero": pax(b"13 size=-512\n") + header("train/a/x.png", 0),
    "a long name of 4 GB": header("././@LongLink", 4 << 30, tarfile.GNUTYPE_LONGNAME),
    "4 GB of pax": header("x", 4 << 30, tarfile.XHDTYPE),
    "a million digits": pax(b"9" * (1 << 20)),
    "records in one another": pax(b"1 " * (1 << 18) + b"=") + header("train/a/x.png", 0),
    "a long number": pax(b"5009 size=" + b"9" * 4998 + b"\n") + header("train/a/x.png", 0),
    "a damaged header": header("train/a/x.png", 0).replace(b"x.png", b"y.png"),
    "half a header": header("train/a/x.png", 0)[:300],
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("lie", LIES)
def test_a_tar_that_lies_is_one_line_at_once(lie: str, packed: bool, tmp_path: Path) -> None:
    plain = tmp_path / "plain.tar"
    write_tar(plain, GOOD)
    blocks = plain.read_bytes().rstrip(b"\0")
    data = blocks + bytes(-len(blocks) % 512) + LIES[lie] + (bytes(1024) if lie[0] != "h" else b"")
    source = tmp_path / ("all.tgz" if packed else "all.tar")
    source.write_bytes(gzip.compress(data, 1) if packed else data)
    with pytest.raises(ValueError, match=r"all\.t\w+ cannot be unpacked \(") as error:
        prepare(ANY, source, tmp_path / "data" / "any")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


def test_a_tar_without_an_end_is_used_and_told(tmp_path: Path) -> None:
    """Some programs write none; but so ends one whose download broke off between two members."""
    source = tmp_path / "all.tar"
    write_tar(source, GOOD)
    data = source.read_bytes().rstrip(b"\0")
    source.write_bytes(data + bytes(-len(data) % 512))
    assert left_packed(source, tmp_path) == ["all.tar: no mark of its end: perhaps it is not whole"]


def overlapping(path: Path, count: int) -> None:
    """A zip whose entries all mean one member of 100 MB of zeros, packed to 100 kB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        with opened.open("train/a/0.png", "w") as member:
            for _ in range(100):
                member.write(bytes(1_000_000))
        for n in range(1, count):
            entry = zipfile.ZipInfo(f"train/a/{n}.png")
            first = opened.filelist[0]
            for field in ("CRC", "compress_size", "file_size", "compress_type", "header_offset"):
                setattr(entry, field, getattr(first, field))
            opened.filelist.append(entry)


BOMBS: dict[str, Callable[[Path], None]] = {
    "overlapping.zip": lambda path: overlapping(path, 400),
    "large.tar.gz": lambda path: write_zeros(path, 1_200),
    "nested.zip": lambda path: nested(path),
}


def write_zeros(path: Path, megabytes: int) -> None:
    """A packed tar of so much in images of one megabyte of zeros."""
    with gzip.open(path, "wb", 1) as file:
        for number in range(megabytes):
            file.write(header(f"train/a/{number}.png", 1 << 20) + bytes(1 << 20))
        file.write(bytes(1024))


def nested(path: Path) -> None:
    """Archives of which each may be unpacked, all together not."""
    inner = path.with_name("inner.zip")
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as opened:
        for n in range(3):
            with opened.open(f"{n}.png", "w") as member:
                for _ in range(100):
                    member.write(bytes(1_000_000))
    with zipfile.ZipFile(path, "w") as opened:
        for n in range(5):
            opened.write(inner, f"train/class{n}.zip")
    inner.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_with_little_memory_and_disk(name: str, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    BOMBS[name](source / name)
    assert (source / name).stat().st_size < 8e6
    told = limited(source, tmp_path / "data" / "any", memory=3 << 30, seconds=60)
    assert "far more than its size" in told
    assert not (tmp_path / "data").exists()


def limited(source: Path, root: Path, *, memory: int, seconds: int) -> str:
    """What `prepare` says in a process with so little memory, processor time and disk."""
    script = f"""
        import resource, sys
        from pathlib import Path
        from data_prep.layout import Layout
        from data_prep.prepare import prepare
        resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
        resource.setrlimit(resource.RLIMIT_CPU, ({seconds}, {seconds}))
        resource.setrlimit(resource.RLIMIT_FSIZE, ({2 << 30}, {2 << 30}))
        try:
            print(prepare(Layout(task="any", short_side=256), Path(sys.argv[1]),
                          Path(sys.argv[2])).summary)
        except ValueError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(source), str(root)],
        capture_output=True,
        text=True,
        timeout=4 * seconds,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_too_many_members_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_members, "MAX_MEMBERS", 5)
    write_tar(tmp_path / "all.tar.xz", GOOD)
    with pytest.raises(ValueError, match=r"cannot be unpacked \(more than 5 members\)"):
        prepare(ANY, tmp_path / "all.tar.xz", tmp_path / "data" / "any")


def test_a_member_that_could_not_be_read_is_left_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "MAX_BYTES", 5_000)
    write_zip(tmp_path / "all.zip", GOOD, {"train/a/large.png": bytes(5_001)})
    assert left_packed(tmp_path / "all.zip", tmp_path) == [
        "all.zip: 'train/a/large.png': too large"
    ]


def test_a_folder_called_archives_is_a_folder(tmp_path: Path) -> None:
    """Archives within one wait in a folder of no name that a member can have."""
    names = {name.replace("train/", "archives/"): data for name, data in GOOD.items()}
    names |= {f"archives/.archives/{n}.png": png(50) for n in range(2)}
    write_zip(tmp_path / "all.zip", names)
    left = left_packed(tmp_path / "all.zip", tmp_path)
    assert left == [
        f"all.zip: 'archives/.archives/{n}.png': hidden, or no plain name" for n in range(2)
    ]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 99])
def test_a_damaged_or_unknown_member_costs_itself_alone(method: int, tmp_path: Path) -> None:
    source = tmp_path / "all.zip"
    known = zipfile.ZIP_STORED if method == 99 else method
    with zipfile.ZipFile(source, "w", known) as opened:
        for name, data in GOOD.items():
            opened.writestr(name, data)
        opened.writestr("train/a/x.png", bytes(9) * 999)
    content = bytearray(source.read_bytes())
    with zipfile.ZipFile(source) as opened:
        last = opened.infolist()[-1]
    if method == 99:
        for mark, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
            content[content.rindex(mark) + place] = 99
    else:
        begin = last.header_offset + 30 + len(last.filename)
        content[begin + 4 : begin + last.compress_size] = b"\xaa" * (last.compress_size - 4)
    source.write_bytes(content)
    (left,) = left_packed(source, tmp_path)
    assert left.startswith("all.zip: 'train/a/x.png': damaged (")


def test_an_archive_whose_own_name_is_no_text(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    write_zip(source / "all\udcff.zip", GOOD, {"../x.png": b""})
    left = left_packed(source, tmp_path)
    assert left == ["all\udcff.zip: '../x.png': unsafe path"]
