"""Names of files and folders for any text."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from data_prep.files import is_plain_name
from data_prep.prepare import prepare
from data_prep.safe_names import is_line, safe_names
from tests.downloads import LAYOUT, write_table


def test_odd_names_can_be_read_back() -> None:
    odd = ["a/b", "AC/DC", ".x", "B:emu", "..", "100%", "a\\b", "end."]
    names = safe_names(odd)
    assert names["a/b"] == "a%2Fb"
    assert names[".x"] == "%2Ex"
    assert {unquote(name) for name in names.values()} == set(odd)


def test_plain_names_are_their_own() -> None:
    plain = ["cat", "boston_bull", "Chien d'été", "狗", "a b", "007"]
    assert safe_names(plain) == {name: name for name in plain}


@given(st.lists(st.text(min_size=1, max_size=300).filter(is_line)))
def test_names_are_plain_and_of_their_own(texts: list[str]) -> None:
    names = safe_names(texts)
    assert names.keys() == set(texts)
    assert all(is_plain_name(name) for name in names.values())
    assert len({name.casefold() for name in names.values()}) == len(names)


def test_labels_that_are_no_file_names_stay_labels(tmp_path: Path) -> None:
    labels = ["cat", "dog/wolf", "B:emu", ".fox", "../../out", "NA", "None", "null", "1e5", "007"]
    rows = [(f"a{number}", labels[number % 10]) for number in range(60)]
    data = prepare(LAYOUT, write_table(tmp_path / "in", rows), tmp_path / "data" / "toy")
    assert data.classes == tuple(sorted(labels))
    assert dict(zip(data.split["id"], data.split["label"], strict=True)) == dict(rows)
    root = data.root
    assert (root / "classes.txt").read_text().splitlines() == sorted(labels)
    assert (root / "train_valid" / "dog%2Fwolf" / "a1.png").is_file()
    assert len(list((root / "train_valid").rglob("*.png"))) == 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "in"]
    assert len({path.name for path in (root / "train_valid").iterdir()}) == 10
