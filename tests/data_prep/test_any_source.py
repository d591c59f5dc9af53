"""Whatever the table and the file tree: every image and row is used or counted, nothing outside."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.layout import Layout
from data_prep.prepare import prepare
from data_prep.prepared import load_prepared
from tests.downloads import png

ANY = Layout(task="any", image_size=2)
names = st.text("aB0.1 é-", min_size=1, max_size=4).filter(lambda name: set(name) - set(". "))
suffixes = st.sampled_from([".png", ".PNG", ".jpg", ".txt", ""])
folders = st.lists(st.sampled_from(["x", "Y y", ".hid", "train"]), max_size=2)
paths = st.builds(
    lambda parts, name, ending: "/".join([*parts, name.strip() + ending]), folders, names, suffixes
)
labels = st.sampled_from(["cat", "dog", "a/b", "..", "NA", "", 'q"t', "x,y", " cat ", "狗"])
prefixes = st.sampled_from(["", "train/", "../", "/abs/", "./", "x\\"])


@st.composite
def sources(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, str]]]:
    """Files below train/, and rows of a table that name some of them in some form, or nothing."""
    files = draw(st.lists(paths, min_size=1, max_size=12, unique_by=str.casefold))
    ids = st.one_of(st.sampled_from(files), paths, st.just(""))
    forms = st.builds(
        lambda prefix, name, cut: prefix + (name.rsplit(".", 1)[0] if cut else name),
        prefixes,
        ids,
        st.booleans(),
    )
    return files, draw(st.lists(st.tuples(forms, labels), max_size=15))


def write(folder: Path, files: list[str]) -> set[str]:
    """Write an image for each name that can be a file beside the others; those written."""
    written: set[str] = set()
    for number, name in enumerate(files):
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(number, (2, 2)))
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue  # one is a folder of the other
        written.add(name)
    return written


def everything(folder: Path) -> set[str]:
    """All paths below the folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def prepared(base: Path) -> dict[str, Any] | None:
    """audit.json of the source; None where it was refused in one line and left nothing."""
    before = everything(base)
    problem = None
    try:
        prepare(ANY, base / "in", base / "data" / "any")
    except ValueError as error:
        problem = str(error)
    if problem is not None:
        assert "\n" not in problem
        assert everything(base) == before
        return None
    outside = {path for path in everything(base) if path != "data" and path[:5] != "data/"}
    assert outside == before
    record: dict[str, Any] = json.loads((base / "data" / "any" / "audit.json").read_text())
    return record


def check(base: Path, record: dict[str, Any], written: set[str]) -> None:
    """Each file is an image that is used or is named; trees, tables and arrays agree."""
    data = load_prepared(base / "data" / "any")
    named = [name for found in record["skipped"].values() for name in found]
    assert len(data.split) + len(record["skipped"]["unlabelled_files"]) + len(
        named_by_contradiction(record)
    ) >= len(written)
    linked = [path for path in (data.root / "train_valid").rglob("*") if path.is_file()]
    assert len(linked) == len(data.split) == record["counts"]["labelled"]
    assert sorted(set(data.split["label"])) == list(data.classes)
    assert data.split["id"].is_unique
    assert all(isinstance(name, str) for name in named)


def named_by_contradiction(record: dict[str, Any]) -> list[str]:
    """Ids of images that are left out for having two labels."""
    found: list[str] = record["skipped"].get("contradictory_ids", [])
    return found


@settings(deadline=None, max_examples=60)
@given(sources())
def test_tables(case: tuple[list[str], list[tuple[str, str]]]) -> None:
    files, rows = case
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        written = write(base / "in" / "train", files)
        text = io.StringIO()
        csv.writer(text).writerows([("id", "label"), *rows])
        (base / "in" / "labels.csv").write_bytes(text.getvalue().encode())
        record = prepared(base)
        if record is None or "bad_ids" not in record["skipped"]:
            return  # refused, or the folders are the classes
        check(base, record, written)
        assert record["counts"]["label_rows"] == len(rows)
        skipped = record["counts"]
        per_row = ("bad_ids", "bad_labels", "repeated_ids")
        lower = len(rows) - sum(skipped[reason] for reason in per_row)
        assert skipped["labelled"] + skipped["undecodable"] <= lower
        good = {label.strip() for row_id, label in rows if label.strip() and row_id.strip()}
        lost = {text.rsplit(" (", 1)[0] for text in record["lost_classes"]}
        classes = set(load_prepared(base / "data" / "any").classes)
        assert classes | lost == good
        assert not classes & lost


@settings(deadline=None, max_examples=60)
@given(st.lists(paths, min_size=1, max_size=15, unique_by=str.casefold), st.booleans())
def test_class_folders(files: list[str], in_train: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        written = write(base / "in" / ("train" if in_train else "."), files)
        record = prepared(base)
        if record is None:
            return
        data = load_prepared(base / "data" / "any")
        images = {path for path in written if path.lower().endswith((".png", ".jpg"))}
        counted = len(data.split) + record["counts"]["unlabelled_files"]
        counted += sum(
            int(text.split(": ")[1].split()[0]) for text in record["skipped"]["unused_folders"]
        )
        assert counted >= len(images)
        assert data.split["id"].is_unique
        linked = [path for path in (data.root / "train_valid").rglob("*") if path.is_file()]
        assert len(linked) == len(data.split)
