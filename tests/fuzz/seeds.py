"""Whole files to begin with, and what is done to their bytes."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import py7zr
from PIL import Image

from search.records.sealed import seal
from tests.ledgers import make_search

IDS = ("a", "b", "007", "x y", "ähre", "dir/c", "犬")
CELLS = (
    *("../../x", "/etc/passwd", "CON", "NUL.png", "/dev/zero", "C:\\x", "a\0b", '"', "''", "", " "),
    *("\u202e", "\ufeff", "=1+1", "1e999", "nan", "a" * 300, "ß", "İ", "x\r", "\x85", "-", "%"),
)


def tables() -> list[bytes]:
    """Tables of labels as programs write them."""
    rows = [("id", "label"), *((name, "cat" if n % 2 else "dög") for n, name in enumerate(IDS))]
    rows += [(cell, cell) for cell in CELLS]
    found = []
    for separator, end in ((",", "\n"), (";", "\r\n"), ("\t", "\r")):
        text = end.join(separator.join(row) for row in rows) + end
        found += [text.encode(code) for code in ("utf-8", "utf-8-sig", "utf-16", "utf-16-be")]
        local = "".join(char for char in text if char.isascii() or char in "öä")
        found += [local.encode(code) for code in ("cp1252", "mac_roman", "cp437", "utf-32")]
    found.append(b'id,label\n"a","x\ny"\n"b,c\n' + b"b,dog\n" * 20 + b'"007","""q"""\n')
    found.append(b"id,cat,dog\na,1,0\nb,0,1\n")
    return found


def images() -> list[bytes]:
    """Small images of every format and mode that is read."""
    rng = np.random.default_rng(0)
    rgba = Image.fromarray(rng.integers(0, 256, (9, 13, 4), dtype=np.uint8), "RGBA")
    deep = Image.fromarray(rng.integers(0, 65536, (9, 13), dtype=np.uint16))
    floats = Image.fromarray(rng.random((9, 13), dtype=np.float32))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[Any] = [
        *((rgba.convert(mode), "PNG", {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        *((rgba.convert(mode), "JPEG", {"exif": exif}) for mode in ("L", "RGB", "CMYK")),
        (rgba.convert("RGB"), "JPEG", {"progressive": True}),
        *((rgba.convert(mode), "TIFF", {}) for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK")),
        *((rgba.convert("RGB"), "TIFF", {"compression": c}) for c in ("tiff_lzw", "jpeg")),
        *((rgba.convert("L"), "TIFF", {"compression": c}) for c in ("tiff_deflate", "packbits")),
        *((image, "TIFF", {}) for image in (deep, floats)),
        *((deep, "PNG", {}), (rgba.convert("P"), "GIF", {}), (rgba, "WEBP", {"lossless": True})),
        *((rgba.convert(mode), "BMP", {}) for mode in ("1", "L", "P", "RGB", "RGBA")),
        *(
            (rgba.convert("RGB"), kind, {"save_all": True, "append_images": [rgba.convert("RGB")]})
            for kind in ("GIF", "WEBP", "PNG", "TIFF")
        ),
    ]
    found = []
    for image, kind, options in kinds:
        file = io.BytesIO()
        image.save(file, kind, **options)
        found.append(file.getvalue())
    return found


def archives() -> list[bytes]:
    """Archives with images, a table, links and names that lead out."""
    picture, table = images()[0], tables()[0]
    names = {"train/a.png": picture, "train/b.png": picture, "labels.csv": table, "x/y.txt": table}
    names |= {"../up.png": picture, "/abs.png": picture, "日本.png": picture, "in.zip": b"PK"}
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as opened:
        for number, (name, data) in enumerate(names.items()):
            kind = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
            opened.writestr(name, data, kind[number % 4])
    found = [zipped.getvalue()]
    for layout in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=layout) as tar:
            for name, data in {**names, f"train/{'d' * 120}.png": picture}.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            for link, to in ((tarfile.SYMTYPE, "/etc"), (tarfile.LNKTYPE, "train/a.png")):
                info = tarfile.TarInfo(f"train/link{to[-1]}.png")
                info.type, info.linkname = link, to
                tar.addfile(info)
        found += [packed.getvalue(), gzip.compress(packed.getvalue(), mtime=0)]
    seven = io.BytesIO()
    with py7zr.SevenZipFile(seven, "w") as target:
        for name, data in list(names.items())[:4]:
            target.writestr(data, name)
    return [*found, seven.getvalue()]


def ledgers() -> list[bytes]:
    """Ledgers of a small search: as they are, and without seals."""
    with tempfile.TemporaryDirectory() as folder:
        whole = (
            make_search(Path(folder) / "digits" / "one", trials=4) / "ledger.jsonl"
        ).read_bytes()
    lines = [json.loads(line) for line in whole.splitlines()]
    for line in lines:
        del line["check"]
    return [whole, "".join(f"{json.dumps(line)}\n" for line in lines).encode()]


SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "labels": tables,
    "image": images,
    "archive": archives,
    "ledger": ledgers,
}
ODD = (b"\0", b"\xff", b"\xfe\xff", b'"', b",", b"\n", b"\r", b"\0" * 512, b"\x80" * 9, b"\x7f\xff")
ODD_VALUES = ("null", "-1", "1e999", "NaN", "[]", "{}", '"x"', "9" * 400, "9" * 5000, "[" * 99_999)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to four things done to them."""
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) + 1)
        length = rng.choice((1, 1, 2, 4, 8, 64, 512))
        match rng.randrange(7):
            case 0:
                data = data[:place]
            case 1:
                data = data[:place] + rng.randbytes(length) + data[place + length :]
            case 2:
                data = data[:place] + data[place + length :]
            case 3:
                data = (
                    data[:place] + data[rng.randrange(len(data) + 1) :][: 4 * length] + data[place:]
                )
            case 4:
                data = data[:place] + rng.choice(ODD) + data[place:]
            case 5 if data:
                place = rng.randrange(len(data))
                flipped = data[place] ^ (1 << rng.randrange(8))
                data = data[:place] + bytes([flipped]) + data[place + 1 :]
            case _ if place + 4 <= len(data):
                number = rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 65535, 65536, 1 << 20))
                order = rng.choice("<>")
                data = data[:place] + struct.pack(f"{order}I", number) + data[place + 4 :]
    return data


def mended(target: str, data: bytes, rng: random.Random) -> bytes:
    """Often with checksums that fit again: what is behind them is reached by a stranger, too."""
    if rng.random() < 0.3:
        return data
    if target == "archive" and data[:2] == b"7z":
        return mended_7z(data)
    if target == "archive":
        return mended_tar(data)
    return resealed(data, rng) if target == "ledger" else data


def mended_7z(data: bytes) -> bytes:
    """A 7z archive with its two checksums right."""
    if len(data) < 32:
        return data
    offset, size = struct.unpack("<QQ", data[12:28])
    header = data[32 + offset :][:size] if offset + size < 1 << 30 else b""
    start = data[12:28] + struct.pack("<I", zlib.crc32(header))
    return data[:8] + struct.pack("<I", zlib.crc32(start)) + start + data[32:]


def mended_tar(data: bytes) -> bytes:
    """A tar archive with the checksums of its headers right."""
    blocks = [data[place : place + 512] for place in range(0, len(data), 512)]
    for number, block in enumerate(blocks):
        if block[257:262] == b"ustar" and len(block) == 512:
            total = sum(block[:148]) + sum(block[156:]) + 8 * 32
            blocks[number] = block[:148] + f"{total:06o}\0 ".encode() + block[156:]
    return b"".join(blocks)


def resealed(data: bytes, rng: random.Random) -> bytes:
    """Lines of a ledger with odd values in place of some, sealed again where they are JSON."""
    lines = []
    for number, line in enumerate(data.decode(errors="replace").splitlines(), start=1):
        if rng.random() < 0.1:
            parts = line.split(": ")
            place = rng.randrange(len(parts))
            cut = parts[place].find(",")
            parts[place] = rng.choice(ODD_VALUES) + (parts[place][cut:] if cut >= 0 else "")
            line = ": ".join(parts)
        try:
            event = json.loads(line)
            event.pop("check", None)
            lines.append(seal(event, number))
        except (ValueError, TypeError, AttributeError, RecursionError):
            lines.append(f"{line}\n")
    return "".join(lines).encode(errors="replace")
