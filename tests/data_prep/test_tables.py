"""Rows and cells of tables, whatever separates them and however they are quoted."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.prepare import prepare
from data_prep.tables import Table, read_table
from tests.downloads import LAYOUT, cats_and_dogs, write_table


def read(tmp_path: Path, text: str) -> Table:
    """The text as a file, read."""
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode())
    return read_table(path)


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends(tmp_path: Path, separator: str, end: str) -> None:
    lines = ["id;label", "a; b ", "", "c;d"]
    table = read(tmp_path, end.join(lines).replace(";", separator))
    assert (table.header, table.rows) == (("id", "label"), (("a", "b"), ("c", "d")))


def test_other_separators_inside_cells_are_text(tmp_path: Path) -> None:
    table = read(tmp_path, "id,label\na,x;y\nb,p;q\n")
    assert table.rows == (("a", "x;y"), ("b", "p;q"))
    table = read(tmp_path, 'id;label\na;"x, y"\nb;p,q\n')
    assert table.rows == (("a", "x, y"), ("b", "p,q"))


def test_a_lone_quotation_mark_breaks_its_own_row_alone(tmp_path: Path) -> None:
    table = read(tmp_path, 'id,label\na,"cat\nb,"dog"\nc,"x ""y"""\nd,5" disk\n')
    assert table.broken == ('line 2: a,"cat',)
    assert table.rows == (("b", "dog"), ("c", 'x "y"'), ("d", '5" disk'))


def test_a_cell_of_several_lines_is_one_cell(tmp_path: Path) -> None:
    table = read(tmp_path, 'id,text,label\na,"one\ntwo\nthree",cat\nb,"x,cat\nc,y,dog\n')
    assert table.rows == (("a", "one\ntwo\nthree", "cat"), ("c", "y", "dog"))
    assert table.broken == ('line 5: b,"x,cat',)


def test_rows_of_any_length(tmp_path: Path) -> None:
    table = read(tmp_path, "id,label\na\nb,c,d\n")
    assert table.column(1) == ["", "c"]
    assert read(tmp_path, "id,label\n\n  \n,\n").rows == (("", ""),)  # an empty row is a row


def test_no_row_is_swallowed_in_prepare(tmp_path: Path) -> None:
    rows = cats_and_dogs(30)
    download = write_table(tmp_path / "in", rows)
    text = (download / "labels.csv").read_text().replace("c9,cat", 'c9,"cat')
    (download / "labels.csv").write_text(text)
    data = prepare(LAYOUT, download, tmp_path / "data")
    assert len(data.split) == 59
    assert 'broken rows 1 (line 11: c9,"cat)' in data.summary
