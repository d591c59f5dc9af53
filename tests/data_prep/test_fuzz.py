"""Files from nowhere: damaged at random, or made to hang, fill or mislead what reads them.

`python -m tests.fuzz` does the same for as long as one likes, by coverage where atheris is there.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import string
import struct
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from data_prep.encoding import decode_table
from data_prep.images import no_pillow_warnings
from data_prep.layout import Layout, SourceOptions
from data_prep.prepare import prepare
from data_prep.tables import MAX_TABLE, read_table
from search.errors import mistake
from tests.downloads import cats_and_dogs, png, write_download
from tests.fuzz.__main__ import problem
from tests.fuzz.seeds import CELLS, SEEDS, damaged, images, mended, tables
from tests.fuzz.targets import TARGETS

ANY = Layout(task="any", image_size=4)
SHORT = {"labels": 600, "image": 4000, "archive": 500, "ledger": 150}
"""Inputs of each kind that a test run waits for: some three seconds each."""
SEED = int(os.environ.get("RESNET_TUNE_SEED", "21"))


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_bytes_end_well_or_in_one_line(target: str) -> None:
    run_target(target, SHORT[target])


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("target", TARGETS)
def test_many_more_damaged_bytes(target: str) -> None:
    run_target(target, 100 * SHORT[target])


def run_target(target: str, count: int) -> None:
    """Damage whole files so many times; the seed tells which."""
    rng, seeds = random.Random(SEED), SEEDS[target]()
    for number in range(count):
        data = mended(target, damaged(rng.choice(seeds), rng), rng)
        found = problem(TARGETS[target], data)
        assert found is None, f"input {number} of seed {SEED}: {found}"


def used_and_told(source: Path, tmp_path: Path) -> dict[str, int]:
    """The counts of audit.json; nothing is written outside, and nothing but one line is raised."""
    before = {path for path in tmp_path.rglob("*")}
    root = tmp_path / "data" / "any"
    with no_pillow_warnings():
        prepare(ANY, source, root)
    new = {path for path in tmp_path.rglob("*")} - before - {tmp_path / "data"}
    assert all(root == path or root in path.parents for path in new)
    counts: dict[str, int] = json.loads((root / "audit.json").read_text())["counts"]
    return counts


def test_damaged_images_are_counted_and_the_rest_is_used(tmp_path: Path) -> None:
    """Of every format, under the right suffix and under others."""
    rng = random.Random(SEED)
    folder = tmp_path / "in" / "train"
    folder.mkdir(parents=True)
    rows = []
    for number, data in enumerate(images()):
        for kind in range(6):
            name = f"{number}-{kind}"
            suffix = (".png", ".jpg", ".gif", ".tif", ".bmp", ".webp")[(number + kind) % 6]
            content = data if kind == 0 else damaged(data, rng)
            (folder / (name + suffix)).write_bytes(b"" if kind == 5 else content)
            rows.append((name, "ab"[number % 2]))
    with (tmp_path / "in" / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "label"), *rows])
    counts = used_and_told(tmp_path / "in", tmp_path)
    assert counts["labelled"] + counts["undecodable"] == len(rows)
    assert counts["labelled"] >= len(images())
    assert counts["undecodable"] >= len(images())  # the empty ones


@pytest.mark.parametrize("number", range(4))
def test_a_damaged_table_costs_its_own_rows(number: int, tmp_path: Path) -> None:
    """Rows that no file can mean, lone quotes and bytes of no letter between good ones."""
    rng = random.Random(SEED + number)
    rows = [*cats_and_dogs()]
    write_download(tmp_path / "in", rows)
    lines = [f"{i},{label}" for i, label in rows]
    odd = [f"{cell},{cell}" for cell in CELLS]
    rng.shuffle(odd)
    for line in odd:
        lines.insert(rng.randrange(len(lines) + 1), line)
    text = rng.choice(("\n", "\r\n")).join(["id,label", *lines])
    (tmp_path / "in" / "labels.csv").write_text(text, newline="")
    counts = used_and_told(tmp_path / "in", tmp_path)
    assert counts["labelled"] == 20
    problems = ("bad_ids", "bad_labels", "missing_files", "broken_rows", "repeated_ids")
    told = sum(counts[name] for name in problems)
    assert len(odd) - text.count('",') <= told <= len(odd) + 1
    assert counts["label_rows"] <= 20 + len(odd) + 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize("encoding", [None, "utf-16", "cp1252", "gb18030", "nonsense"])
def test_any_encoding_of_any_bytes(encoding: str | None, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    for data in [*tables(), *(rng.randbytes(300) for _ in range(20))]:
        path = tmp_path / "labels.csv"
        path.write_bytes(data)
        try:
            table = read_table(path, encoding)
        except ValueError as error:
            told = mistake(error)
            assert told is not None
            assert "\n" not in told
        else:
            assert all(isinstance(cell, str) for row in table.rows for cell in row)


LONG: dict[str, Callable[[], bytes]] = {
    "one cell": lambda: b"id,label\n" + b"x" * 10_000_000 + b",cat\n",
    "one quoted cell": lambda: b'id,label\n"' + b"x" * 10_000_000 + b'",cat\n',
    "cells": lambda: b"id,label\n" + b"x," * 5_000_000 + b"\n",
    "a header of cells": lambda: b"id,label" + b",x" * 5_000_000 + b'\n"a' + b",x" * 4_999_999,
    "open quotes": lambda: b'id,label,x\n"' + b'"a\n' * 50_000,
    "quotes": lambda: b"id,label\n" + b'"' * 10_000_000,
    "letters of no encoding": lambda: b"id,label\na,\x81\n" + b"x" * 10_000_000,
    "a word of no encoding": lambda: b"id,label\na," + b"\xe4\x81" * 5_000_000,
    "words of no encoding": lambda: b"".join(b"%d\xe4\x81\n" % n for n in range(100_000)),
    "blank lines": lambda: b"id,label\n" + b"\n" * 2_000_000,
    "blanks": lambda: b"id,label\n" + b" " * 10_000_000,
    "zeros": lambda: bytes(10_000_000),
    "carriage returns": lambda: b"id,label\r" * 100_000,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", LONG)
def test_a_line_of_ten_megabytes_is_read_or_refused_in_seconds(kind: str, tmp_path: Path) -> None:
    write_download(tmp_path / "in", cats_and_dogs())
    labels = tmp_path / "in" / "labels.csv"
    labels.write_bytes(LONG[kind]())
    begun = time.process_time()
    try:
        used_and_told(tmp_path / "in", tmp_path)
    except ValueError as error:
        told = mistake(error)
        assert told is not None
        assert "\n" not in told
        assert len(told) < 1_000
    assert time.process_time() - begun < 15


def test_what_is_no_file_is_no_table(tmp_path: Path) -> None:
    write_download(tmp_path / "in", cats_and_dogs())
    labels = tmp_path / "in" / "labels.csv"
    kinds: dict[str, Callable[[], None]] = {
        "folder": labels.mkdir,
        "pipe": lambda: os.mkfifo(labels),
        "device": lambda: labels.symlink_to("/dev/zero"),
        "loop": lambda: labels.symlink_to(labels),
        "sparse": lambda: make_sparse(labels),
    }
    good = labels.read_bytes()
    for kind, make in kinds.items():
        remove(labels)
        make()
        for options in (SourceOptions(), SourceOptions(labels=labels)):
            with pytest.raises(ValueError, match=r"labels\.csv|class folders") as error:
                prepare(ANY, tmp_path / "in", tmp_path / "data" / "any", options=options)
            assert "\n" not in str(error.value), kind
        (tmp_path / "in" / "more.csv").write_bytes(good)  # another table is used in its place
        if kind != "folder":
            assert used_and_told(tmp_path / "in", tmp_path)["labelled"] == 20, kind
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        (tmp_path / "in" / "more.csv").unlink()


def make_sparse(path: Path) -> None:
    """A file larger than a table may be, of nothing."""
    path.touch()
    os.truncate(path, MAX_TABLE + 1)


def remove(path: Path) -> None:
    """Whatever it is."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def test_folders_that_lead_round_and_odd_files_among_the_images(tmp_path: Path) -> None:
    write_download(tmp_path / "in", cats_and_dogs())
    train = tmp_path / "in" / "train"
    (train / "round").symlink_to(tmp_path / "in")
    (train / "self").symlink_to("self")
    (train / "up.png").symlink_to("/etc")
    (train / "zero.png").symlink_to("/dev/zero")
    (train / "folder.png").mkdir()
    os.mkfifo(train / "pipe.png")
    (train / "CON.png").write_bytes(png(900))
    (train / "NUL").write_bytes(png(901))
    os.mknod(train / "socket.png", 0o140600) if os.geteuid() == 0 else None
    deep = train
    for _ in range(60):
        deep /= "d" * 60
        deep.mkdir()
    counts = used_and_told(tmp_path / "in", tmp_path)
    assert counts["labelled"] == 20
    assert counts["unlabelled_files"] >= 7


def chunk(kind: bytes, body: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG of zeros of this size, whole, in a thousandth of its bytes."""
    channels = {0: 1, 2: 3, 6: 4}[colour]
    row = bytes(1 + (width * depth * channels + 7) // 8)
    packer = zlib.compressobj(1)
    body = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", body), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def text_bomb(kind: bytes) -> bytes:
    """A PNG with 300 MB of text or profile in it."""
    good, packed = png(1), zlib.compress(bytes(300_000_000), 1)
    head = {b"zTXt": b"x\0\0", b"iTXt": b"x\0\1\0\0\0", b"iCCP": b"x\0\0"}[kind]
    return good[:33] + chunk(kind, head + packed) + good[33:]


BOMBS: dict[str, Callable[[], bytes]] = {
    "20000x20000.png": lambda: bomb(20_000, 20_000, 1),
    "20000x1.png": lambda: bomb(20_000, 1),
    "1x20000.png": lambda: bomb(1, 20_000),
    "65535x1365.png": lambda: bomb(65_535, 1_365, 1),
    "deep.png": lambda: bomb(9_000, 9_000, 16),
    "1x1.png": lambda: bomb(1, 1),
    "ztxt.png": lambda: text_bomb(b"zTXt"),
    "itxt.png": lambda: text_bomb(b"iTXt"),
    "iccp.png": lambda: text_bomb(b"iCCP"),
    "gif.gif": lambda: png_as("GIF").replace(struct.pack("<HH", 4, 4), b"\xff" * 4, 1),
    "bmp.bmp": lambda: png_as("BMP").replace(struct.pack("<II", 4, 4), b"\0\0\1\0" * 2, 1),
    "webp.webp": lambda: webp(16_383, 16_383),
}


def png_as(kind: str) -> bytes:
    """A small image in another format."""
    file = io.BytesIO()
    Image.open(io.BytesIO(png(1))).save(file, kind)
    return file.getvalue()


def webp(width: int, height: int) -> bytes:
    """An animation whose canvas is as large as can be, and whose picture is small."""
    inner = png_as("WEBP")[12:]
    canvas = b"\x02\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    frame = bytes(6) + b"\3\0\0" + b"\3\0\0" + b"\1\0\0\0" + inner
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas
    body += b"ANIM" + struct.pack("<I", 6) + bytes(6)
    body += b"ANMF" + struct.pack("<I", len(frame)) + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.slow
def test_bombs_take_a_bounded_memory(tmp_path: Path) -> None:
    """In a process with 3 GB for everything; the rest of the data set is used."""
    write_download(tmp_path / "in", cats_and_dogs())
    lines = (tmp_path / "in" / "labels.csv").read_text()
    for number, (name, make) in enumerate(BOMBS.items()):
        (tmp_path / "in" / "train" / name).write_bytes(make())
        lines += f"{name},{'cat' if number % 2 else 'dog'}\n"
    (tmp_path / "in" / "labels.csv").write_text(lines)
    script = """
        import resource, sys
        from pathlib import Path
        from data_prep.layout import Layout
        from data_prep.prepare import prepare
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
        prepare(Layout(task="any", short_side=256), Path(sys.argv[1]), Path(sys.argv[2]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
    root = tmp_path / "data" / "any"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "in"), str(root)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2_000_000, "kB"
    record = json.loads((root / "audit.json").read_text())
    left = {text.split(":")[0] for text in record["skipped"]["undecodable"]}
    assert {"20000x20000.png", "webp.webp"} <= left
    assert not {"1x1.png", "20000x1.png", "1x20000.png", "65535x1365.png", "deep.png"} & left
    assert record["counts"]["labelled"] + len(left) == 20 + len(BOMBS)


def test_words_are_weighed_as_before() -> None:
    """Long runs of letters are left out of it, for every reading alike."""
    text = "id,label\n1,Mönch\n2,Größe\n3,Käse\n4,Übung\n5,schön\n"
    found = decode_table(text.encode("cp1252"), "labels.csv", None)
    assert found[0] == text
    long = text + "6," + "ö" * 500 + string.ascii_letters * 20 + "\n"
    assert decode_table(long.encode("cp1252"), "labels.csv", None) == (long, found[1])
