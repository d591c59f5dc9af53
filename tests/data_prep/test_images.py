"""Images as cameras and programs make them: the pixels that come out, written down."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep.images import MAX_BYTES, decode, no_pillow_warnings, read_file, rules
from data_prep.prepare import prepare
from tests.downloads import LAYOUT, cats_and_dogs, write_download

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
COLOURS = {"R": RED, "G": GREEN, "B": BLUE, "W": WHITE}
ORIENTATION = 0x0112
SIDE = 16  # of one of the four squares; JPEG keeps the colours of whole blocks
LOSSLESS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 100, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
}
# Top left, top right, bottom left, bottom right of what is seen, where RGBW is stored
SEEN = {
    1: "RGBW",
    2: "GRWB",
    3: "WBGR",
    4: "BWRG",
    5: "RBGW",
    6: "BRWG",
    7: "WGBR",
    8: "GWRB",
}


def four_squares(width: int = 2 * SIDE) -> Image.Image:
    """Red, green; blue, white: 32 pixels high."""
    image = Image.new("RGB", (width, 2 * SIDE), WHITE)
    image.paste(RED, (0, 0, width // 2, SIDE))
    image.paste(GREEN, (width // 2, 0, width, SIDE))
    image.paste(BLUE, (0, SIDE, width // 2, 2 * SIDE))
    return image


def file_of(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image as a file."""
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """The four corners, row by row."""
    right, bottom = image.width - 1, image.height - 1
    places = [(0, 0), (right, 0), (0, bottom), (right, bottom)]
    return [tuple(np.asarray(image)[y, x].tolist()) for x, y in places]


def assert_close(got: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]]) -> None:
    """Equal up to what JPEG rounds."""
    np.testing.assert_allclose(np.array(got), np.array(wanted), atol=2)


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("orientation", SEEN)
def test_every_format_is_turned_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = decode(file_of(four_squares(64), kind, exif=exif, **LOSSLESS[kind]))
    assert image.size == ((64, 32) if orientation < 5 else (32, 64))
    assert_close(corners(image), [COLOURS[letter] for letter in SEEN[orientation]])


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b""])
def test_damaged_metadata_do_not_cost_the_picture(exif: bytes) -> None:
    with no_pillow_warnings():
        image = decode(file_of(four_squares(), "JPEG", exif=exif, **LOSSLESS["JPEG"]))
    assert_close(corners(image), [RED, GREEN, BLUE, WHITE])


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_changes_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    assert corners(decode(file_of(four_squares(), "PNG", exif=exif))) == [RED, GREEN, BLUE, WHITE]


RAMP = np.arange(256).reshape(16, 16)


@pytest.mark.parametrize(
    ("kind", "values", "mode"),
    [
        ("PNG", (RAMP * 257).astype(np.uint16), "I;16"),
        ("TIFF", (RAMP * 257).astype(np.uint16), "I;16"),
        ("TIFF", (RAMP * 257).astype(np.int32), "I"),
        ("TIFF", RAMP.astype(np.int32), "I"),
        ("TIFF", (RAMP * 1_000_000 - 5).astype(np.int32), "I"),
        ("TIFF", (RAMP / 255).astype(np.float32), "F"),
        ("TIFF", RAMP.astype(np.float32), "F"),
        ("TIFF", (RAMP * 257).astype(np.float32), "F"),
        ("TIFF", (RAMP * 1e30 - 1e31).astype(np.float32), "F"),
    ],
)
def test_deep_greys_are_scaled(kind: str, values: np.ndarray[Any, Any], mode: str) -> None:
    data = file_of(Image.fromarray(values), kind)
    with Image.open(BytesIO(data)) as opened:
        assert opened.mode == mode
    image = np.asarray(decode(data))
    assert image.shape == (16, 16, 3)
    for channel in range(3):
        np.testing.assert_array_equal(image[..., channel], RAMP)


def test_a_dark_image_of_16_bits_stays_dark() -> None:
    """The same scale for every image of a data set: 12 of 16 bits in use are 16 greys."""
    image = decode(file_of(Image.new("I;16", (3, 3), 4095), "PNG"))
    assert image.getextrema() == ((16, 16),) * 3


def test_the_white_of_floats() -> None:
    values = {0.0: 0, 0.5: 128, 1.0: 255, np.nan: 0, np.inf: 255, -np.inf: 0}
    row = np.array([list(values)], dtype=np.float32)
    assert np.asarray(decode(file_of(Image.fromarray(row), "TIFF")))[0, :, 0].tolist() == [
        *values.values()
    ]
    for constant, seen in ((0.0, 0), (1.0, 255), (-3.0, 0), (70_000.0, 0), (np.nan, 0)):
        flat = Image.fromarray(np.full((2, 2), constant, dtype=np.float32))
        assert decode(file_of(flat, "TIFF")).getextrema() == ((seen, seen),) * 3


def with_alpha(*alphas: int) -> Image.Image:
    """Four squares in a row of one pixel each, with these alphas."""
    image = Image.new("RGBA", (4, 1))
    for x, (colour, alpha) in enumerate(zip(COLOURS.values(), alphas, strict=True)):
        image.putpixel((x, 0), (*colour, alpha))
    return image


def row_of(image: Image.Image) -> list[tuple[int, ...]]:
    """The pixels of an image of one row."""
    return [tuple(pixel) for pixel in np.asarray(image)[0].tolist()]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_what_is_transparent_is_seen_on_white(kind: str) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    image = decode(file_of(with_alpha(0, 255, 102, 255), kind, **options))
    assert row_of(image) == [WHITE, GREEN, (153, 153, 255), WHITE]


def test_transparency_of_palettes_greys_and_one_colour() -> None:
    palette = Image.new("P", (4, 1))
    palette.putpalette([*RED, *GREEN, *BLUE, *WHITE])
    palette.putdata([0, 1, 2, 3])
    grey = Image.new("LA", (2, 1))
    grey.putdata([(0, 0), (100, 255)])
    two = Image.new("RGB", (2, 1), RED)
    two.putpixel((1, 0), GREEN)
    some = bytes([0, 255, 102, 255])
    assert row_of(decode(file_of(palette, "PNG"))) == [RED, GREEN, BLUE, WHITE]
    assert row_of(decode(file_of(palette, "PNG", transparency=1))) == [RED, WHITE, BLUE, WHITE]
    assert row_of(decode(file_of(palette, "GIF", transparency=1))) == [RED, WHITE, BLUE, WHITE]
    of_bytes = row_of(decode(file_of(palette, "PNG", transparency=some)))
    assert of_bytes == [WHITE, GREEN, (153, 153, 255), WHITE]
    assert row_of(decode(file_of(grey, "PNG"))) == [WHITE, (100, 100, 100)]
    assert row_of(decode(file_of(two, "PNG", transparency=RED))) == [WHITE, GREEN]


@pytest.mark.parametrize(("kind", "inverted"), [("JPEG", True), ("JPEG", False), ("TIFF", False)])
def test_cmyk(kind: str, inverted: bool) -> None:
    """JPEG stores it inverted, as Adobe does, whether or not the file has Adobe's marker."""
    data = file_of(four_squares().convert("CMYK"), kind, **LOSSLESS[kind])
    assert (b"Adobe" in data) == (kind == "JPEG")
    if kind == "JPEG" and not inverted:
        place = data.index(b"\xff\xee")
        data = data[:place] + data[place + 16 :]
        assert b"Adobe" not in data
    with Image.open(BytesIO(data)) as opened:
        assert opened.mode == "CMYK"
    assert_close(corners(decode(data)), [RED, GREEN, BLUE, WHITE])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit(kind: str) -> None:
    image = Image.new("1", (16, 2))
    image.paste(1, (8, 0, 16, 2))
    black = (0, 0, 0)
    assert corners(decode(file_of(image, kind))) == [black, WHITE, black, WHITE]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_the_first_frame_of_several(kind: str) -> None:
    options = {"quality": 100, "subsampling": 0} if kind == "MPO" else LOSSLESS.get(kind, {})
    later = [Image.new("RGB", (32, 32), colour) for colour in ("black", "gray")]
    data = file_of(four_squares(), kind, save_all=True, append_images=later, **options)
    with Image.open(BytesIO(data)) as opened:
        assert getattr(opened, "n_frames", 1) == 3
    assert_close(corners(decode(data)), [RED, GREEN, BLUE, WHITE])


def test_ordinary_images_are_as_before_and_others_are_known_as_such() -> None:
    """What older versions packed of these is good; of the others it is made again."""
    squares = four_squares()
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    ordinary = [
        file_of(squares, "JPEG"),
        file_of(squares, "TIFF", exif=exif),  # Pillow itself turned these
        *(file_of(squares.convert(mode), "PNG") for mode in ("RGB", "L", "P", "1", "RGBA", "LA")),
    ]
    for data in ordinary:
        with Image.open(BytesIO(data)) as opened:
            np.testing.assert_array_equal(decode(data), opened.convert("RGB"))
        assert rules(decode(data)) == 1
    others = [
        file_of(squares, "JPEG", exif=exif),
        file_of(with_alpha(0, 1, 2, 3), "PNG"),
        file_of(Image.new("I;16", (2, 2)), "PNG"),
    ]
    assert [rules(decode(data)) for data in others] == [2, 2, 2]


def png_of(width: int, height: int) -> bytes:
    """The head of a grey PNG that claims a size, and hardly any data."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(bytes(9))), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("size", [(2, 44_000_000), (44_000_000, 2), (65_536, 1)])
def test_a_side_that_is_too_long_is_refused_unread(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"{size[0]}x{size[1]} pixels: a side is longer than 65,"):
        decode(png_of(*size))


def test_the_longest_side_is_read() -> None:
    assert decode(file_of(Image.new("L", (65_535, 1)), "PNG")).size == (65_535, 1)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("good")
    assert read_file(tmp_path / "good") == read_file(tmp_path / "link") == b"abc"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero", "."):
        with pytest.raises(ValueError, match="no regular file"):
            read_file(tmp_path / name)
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        read_file(tmp_path / "a")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.png"
    path.touch()
    os.truncate(path, 4 << 30)
    with pytest.raises(ValueError, match=r"4,294,967,296 bytes are too many: at most 536,870,910"):
        read_file(path)
    assert MAX_BYTES == 536_870_910


def test_prepare_counts_what_it_must_not_read(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs())
    train = download / "train"
    for name in ("c0", "c1", "c2", "c3"):
        (train / f"{name}.png").unlink()
    os.mkfifo(train / "c0.png")
    (train / "c1.png").symlink_to("/dev/zero")
    (train / "c2.png").touch()
    os.truncate(train / "c2.png", 4 << 30)
    (train / "c3.png").symlink_to("c3.png")
    root = tmp_path / "data"
    prepare(LAYOUT, download, root)
    record = json.loads((root / "audit.json").read_text())
    assert record["counts"]["labelled"] == 16
    assert record["skipped"]["missing_files"] == ["c0", "c1", "c3"]
    assert record["skipped"]["undecodable"] == [
        "c2.png: cannot be read: 4,294,967,296 bytes are too many: at most 536,870,910"
    ]


def test_facts_and_arrays_of_an_older_decoding_are_made_again(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    turned = file_of(four_squares(64), "PNG", exif=exif)
    download = write_download(tmp_path / "in", cats_and_dogs(), {"c0": turned})
    root = tmp_path / "data"
    first = prepare(LAYOUT, download, root)
    facts = root / ".prepare" / "images.tsv"
    good, packed = facts.read_text(), (root / "packed" / "train_valid.npy").read_bytes()
    old = "\n".join(good.replace("+2", "").replace("\t64\t32\t", "\t32\t64\t").split("\n")[1:])
    facts.write_text(old)
    assert prepare(LAYOUT, download, root).fingerprint == first.fingerprint
    assert facts.read_text() == good
    assert (root / "packed" / "train_valid.npy").read_bytes() == packed
    digests = json.loads((root / "packed" / "packed.json").read_text())["digests"]
    assert [digest[64:] for digest in digests] == ["+2", *[""] * 19]
