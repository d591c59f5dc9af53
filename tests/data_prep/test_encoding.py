"""Every label keeps its letters, or the user is asked; none is replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.encoding import decode_table
from data_prep.layout import SourceOptions
from data_prep.prepare import prepare
from tests.downloads import LAYOUT, write_table


def table(labels: list[str], encoding: str) -> bytes:
    """A table of 60 rows in the encoding."""
    rows = [f"a{number:03d},{labels[number % len(labels)]}\n" for number in range(60)]
    return ("id,label\n" + "".join(rows)).encode(encoding)


@pytest.mark.parametrize(
    ("encoding", "labels"),
    [
        ("utf-8", ["狗", "Hänsel", "кот"]),
        ("utf-8-sig", ["狗", "Hänsel", "кот"]),
        ("utf-16", ["狗", "Hänsel", "кот"]),
        ("utf-16-le", ["cat", "Hänsel", "狗"]),
        ("utf-16-be", ["cat", "Hänsel", "狗"]),
        ("utf-32", ["cat", "Hänsel", "狗"]),
        ("gbk", ["狗", "鸟", "兔"]),
        ("gbk", ["金毛寻回犬", "哈士奇", "泰迪", "拉布拉多"]),
        ("big5", ["狗", "鳥", "兔"]),
        ("cp932", ["犬", "とり", "うさぎ"]),
        ("cp932", ["ネコ", "イヌ", "ウサギ"]),  # as Western letters: âCâk
        ("cp932", ["正常", "異常"]),  # as Korean: syllables that hardly occur
        ("euc_jp", ["ねこ", "イヌ", "うさぎ"]),
        ("latin-1", ["Hänsel", "Hünsel", "Gretel"]),
        ("cp1252", ["café", "pâté", "garçon"]),
        ("cp1250", ["pies", "żółw", "zając"]),
        ("cp1251", ["собака", "птица", "заяц"]),
        ("koi8-r", ["собака", "птица", "заяц"]),
        ("cp866", ["собака", "птица", "заяц"]),
        ("iso8859-5", ["собака", "птица", "заяц"]),
        ("cp1253", ["σκύλος", "πουλί", "λαγός"]),
        ("cp1254", ["kedi", "köpek", "kuş"]),
        ("cp1255", ["חתול", "כלב"]),
        ("cp1256", ["قط", "كلب"]),
        ("cp874", ["กุหลาบ", "ทิวลิป"]),
    ],
)
def test_the_usual_encodings_are_told_by_their_letters(encoding: str, labels: list[str]) -> None:
    text, _ = decode_table(table(labels, encoding), "labels.csv", None)
    assert text.removeprefix("\ufeff") == table(labels, "utf-8").decode()


@pytest.mark.parametrize(
    ("encoding", "labels"),
    [
        ("latin-1", ["chien", "chèvre", "âne"]),  # as Central European: chčvre
        ("gbk", ["猫", "狗"]),  # as Korean: two common syllables
        ("cp949", ["강아지", "고양이"]),
        ("iso8859-2", ["kočka", "pes", "kůň"]),
    ],
)
def test_what_two_encodings_read_alike_well_is_asked_for(encoding: str, labels: list[str]) -> None:
    data = table(labels, encoding)
    with pytest.raises(
        ValueError, match=r"labels\.csv is not UTF-8.*reads.*with --encoding"
    ) as info:
        decode_table(data, "labels.csv", None)
    assert "\n" not in str(info.value)
    assert decode_table(data, "labels.csv", encoding) == (data.decode(encoding), encoding)


def test_known_names_tell_what_letters_do_not() -> None:
    data = "id,label\nchèvre1.png,a\nchèvre2.png,b\n".encode("latin-1")
    text, encoding = decode_table(data, "labels.csv", None, known=["chèvre1", "chèvre2"])
    assert (text, encoding) == (data.decode("latin-1"), "cp1252")
    decomposed = "che\u0300vre1"  # as macOS writes file names
    assert decode_table(data, "labels.csv", None, known=[decomposed])[1] == "cp1252"


def test_a_named_encoding_is_strict() -> None:
    with pytest.raises(ValueError, match=r"labels\.csv is not gbk \(line 3\): name its encoding"):
        decode_table(b"id,label\n1,x\n2,\xff\n", "labels.csv", "gbk")
    with pytest.raises(ValueError, match="--encoding klingon is not known"):
        decode_table(b"id,label\n", "labels.csv", "klingon")


def test_other_tables_in_utf_8_are_read_as_that() -> None:
    data = "id,狗\n".encode()
    assert decode_table(data, "sample.csv", "gbk", trust_utf8=True) == ("id,狗\n", "utf-8")
    assert decode_table("id,狗\n".encode("gbk"), "s", "gbk", trust_utf8=True)[0] == "id,狗\n"


def test_classes_in_gbk_and_latin_1_stay_apart(tmp_path: Path) -> None:
    for encoding, labels in (("gbk", "狗 鸟 兔"), ("latin-1", "Hänsel Hünsel Gretel")):
        rows = [(f"a{number:03d}", labels.split()[number % 3]) for number in range(60)]
        download = write_table(tmp_path / encoding, rows, encoding=encoding)
        data = prepare(LAYOUT, download, tmp_path / "data" / encoding)
        assert data.classes == tuple(sorted(labels.split()))
        assert data.split["label"].value_counts().tolist() == [20, 20, 20]
        assert f"{rows[0][1]}): ids in 'id', labels in 'label'" in data.summary


def test_ids_in_latin_1_are_told_by_their_files(tmp_path: Path) -> None:
    rows = [(f"{letter}{number}", letter) for number in range(20) for letter in "äü"]
    download = write_table(tmp_path / "in", rows, encoding="latin-1")
    assert len(prepare(LAYOUT, download, tmp_path / "data").split) == 40


def test_a_refused_encoding_leaves_nothing_and_the_option_settles_it(tmp_path: Path) -> None:
    rows = [(f"a{number}", ("chèvre", "chien")[number % 2]) for number in range(20)]
    download = write_table(tmp_path / "in", rows, encoding="latin-1")
    with pytest.raises(ValueError, match=r"cp1252 reads 'chèvre'; cp1250 reads 'chčvre'"):
        prepare(LAYOUT, download, tmp_path / "data" / "toy")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    options = SourceOptions(encoding="latin-1")
    data = prepare(LAYOUT, download, tmp_path / "data" / "toy", options=options)
    assert data.classes == ("chien", "chèvre")
