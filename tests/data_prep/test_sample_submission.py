"""What the sample submission asks for is understood, or told, when the data are prepared."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.prepare import prepare
from data_prep.prepared import PreparedData
from data_prep.sample_submission import SampleSubmission, load_sample
from tests.downloads import LAYOUT, cats_and_dogs, write_images, write_table

LABELS = SampleSubmission("label", "id", "label", (), (), ("t0", "t1", "t2"), ("t0", "t1", "t2"))
ROWS = cats_and_dogs(5)


def prepared(
    folder: Path, sample: str | bytes | None, rows: list[tuple[str, str]] = ROWS, test: int = 3
) -> PreparedData:
    """A table of labels with test images t0, t1, ... and a sample submission, prepared."""
    source = write_table(folder / "in", rows)
    if test:
        write_images(source / "test", [f"t{number}.png" for number in range(test)], first=500)
    if sample is not None:
        content = sample if isinstance(sample, bytes) else sample.encode()
        (source / "sample.csv").write_bytes(content)
    return prepare(LAYOUT, source, folder / "data" / "toy")


@pytest.mark.parametrize(
    "text",
    [
        "id,label\nt0,cat\nt1,cat\nt2,cat\n",
        "id;label\r\nt0;cat\r\nt1;cat\r\nt2;cat\r\n",
        "id\tlabel\nt0\tcat\nt1\tcat\nt2\tcat\n",
        "\ufeffid,label\nt0,cat\nt1,cat\nt2,cat\n",
        " id , label\nt0 ,cat\n t1,cat\nt2,\n",
        ",id,label\n0,t0,cat\n1,t1,cat\n2,t2,cat\n",
        "Unnamed: 0,id,label\n0,t0,cat\n1,t1,cat\n2,t2,cat\n",
        "label,id\ncat,t0\ncat,t1\ncat,t2\n",
        "id,label\n",
    ],
)
def test_the_same_sample_in_other_dress(tmp_path: Path, text: str) -> None:
    data = prepared(tmp_path, text)
    assert data.sample == LABELS
    assert "left out or odd" not in data.summary
    assert data.sample_submission is not None
    assert data.sample_submission.read_bytes() == text.encode()


def test_its_own_names_and_order_are_kept(tmp_path: Path) -> None:
    data = prepared(tmp_path, "image_id,Category\nt2.png,0\nt0.png,0\nt1.png,0\n")
    images = ("t2", "t0", "t1")
    ids = ("t2.png", "t0.png", "t1.png")
    assert data.sample == SampleSubmission("label", "image_id", "Category", (), (), ids, images)
    assert "left out or odd" not in data.summary


def test_probabilities(tmp_path: Path) -> None:
    data = prepared(tmp_path, "name,dog,Cat\nt1,.5,.5\nt0,.5,.5\nt2,.5,.5\n")
    assert data.sample is not None
    assert (data.sample.kind, data.sample.id_column) == ("probabilities", "name")
    assert data.sample.class_columns == ("dog", "Cat")
    assert data.sample.classes == ("dog", "cat")


def test_a_class_called_id(tmp_path: Path) -> None:
    rows = [(row_id, label.replace("dog", "id")) for row_id, label in ROWS]
    data = prepared(tmp_path, "id,id,cat\nt0,.5,.5\nt1,.5,.5\nt2,.5,.5\n", rows)
    assert data.sample is not None
    assert (data.sample.id_column, data.sample.classes) == ("id", ("id", "cat"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,cat,dog,emu\nt0,1,0,0\nt1,1,0,0\nt2,1,0,0\n", "sample columns of no class 1 (emu)"),
        ("id,cat,emu\nt0,1,0\nt1,1,0\nt2,1,0\n", "classes not in sample 1 (dog)"),
        ("id,label\nt0,cat\nt2,cat\n", "test images not in sample 1 (t1)"),
        ("id,label\nt0,cat\nt1,cat\nt2,cat\nt9,cat\n", "sample ids without image 1 (t9)"),
        ("id,label\nt0,cat\nt1,cat\nt2,cat\nt1,cat\n", "sample ids repeated 1 (t1)"),
        ("id,label\nt0,cat\nt1,emu\nt2,cat\n", "sample labels of no class 1 (emu)"),
        ('id,label\nt0,"cat\nt1,cat\nt2,cat\n', 'sample rows broken 1 (line 2: t0,"cat)'),
        ("id,label\n", "sample.csv has no rows: every test image is predicted"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, text: str, told: str) -> None:
    data = prepared(tmp_path, text)
    assert told in data.summary
    assert data.sample is not None
    assert None not in data.sample.images or "without image" in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label\nx1,cat\n", r"none of its ids \(x1\.\.\.\) is a test image \(t0\.png, t1\.png"),
        ("id\nt0\n", r"its columns \(id\) are neither an id and a label nor"),
        ("id,p,q\nt0,1,2\n", r"its columns \(id, p, q\) are neither an id and a label nor"),
        ("", r"sample\.csv is empty: its first line must name the columns"),
    ],
)
def test_a_sample_of_other_data_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        prepared(tmp_path, text)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


def test_a_sample_in_latin_1_is_told_by_the_classes(tmp_path: Path) -> None:
    rows = [(row_id, label.replace("cat", "Bär")) for row_id, label in ROWS]
    data = prepared(tmp_path, "id,Bär,dog\nt0,1,0\nt1,1,0\nt2,1,0\n".encode("latin-1"), rows)
    assert data.sample is not None
    assert data.sample.classes == ("Bär", "dog")


def test_an_unreadable_test_image_keeps_its_row(tmp_path: Path) -> None:
    prepared(tmp_path, "id,label\nt0,cat\nt1,cat\nt2,cat\n")
    (tmp_path / "in" / "test" / "t1.png").write_bytes(b"no image")
    data = prepare(LAYOUT, tmp_path / "in", tmp_path / "data" / "toy")
    assert data.sample is not None
    assert data.sample.images == ("t0", None, "t2")


def test_no_test_images_and_no_sample(tmp_path: Path) -> None:
    data = prepared(tmp_path / "one", None, test=0)
    assert data.sample is None
    assert "no test images: there is nothing to predict" in data.summary
    data = prepared(tmp_path / "two", "id,label\nt0,cat\n", test=0)
    assert data.sample is not None
    assert data.sample.images == (None,)
    (tmp_path / "two" / "in" / "sample.csv").unlink()
    data = prepare(LAYOUT, tmp_path / "two" / "in", data.root)
    assert (data.sample, data.sample_submission) == (None, None)


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "sample_submission.json"
    path.write_text(LABELS.to_json())
    assert load_sample(path) == LABELS
    path.write_text('{"ids": []}')
    with pytest.raises(ValueError, match=r"sample_submission\.json is not as `prepare` writes it"):
        load_sample(path)
