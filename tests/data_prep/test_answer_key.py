"""Answers that cannot be right are never scored, and told when the data are prepared."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.answer_key import load_answers
from data_prep.prepare import prepare
from data_prep.prepared import PreparedData
from tests.downloads import LAYOUT, cats_and_dogs, write_images, write_table


def prepared(folder: Path, key: str) -> PreparedData:
    """Five test images t0 to t4 and an answer key, prepared."""
    source = write_table(folder / "in", cats_and_dogs(5))
    write_images(source / "test", [f"t{number}.png" for number in range(5)], first=500)
    (source / "answers.csv").write_text(key)
    return prepare(LAYOUT, source, folder / "data" / "toy")


@pytest.mark.parametrize(
    ("key", "answers", "told"),
    [
        ("id,label\nt0,cat\nt1,dog\nt2,cat\nt3,cat\nt4,dog\n", "cat dog cat cat dog", None),
        ("id;label\nt0.png; cat\nt1.png;dog \n", "cat dog", "test images without answer 3"),
        (
            "id,label\nt0,cat\nt1,emu\nt2,emu\n",
            "cat - -",
            "of no class 2 (t1: emu, t2: emu)",
        ),
        ("id,label\nt0,cat\nt1,\nt2,dog\n", "cat - dog", "answers without label 1 (t1: )"),
        ("id,label\nt0,cat\nt0,dog\nt1,dog\n", "- dog", "answers contradictory 1 (t0)"),
        ("id,label\nt0,cat\nx,dog\n", "cat", "answers without image 1 (x)"),
        (",image,species\n0,t0,cat\n1,t1,dog\n", "cat dog", "test images without answer 3"),
    ],
)
def test_what_can_be_scored(tmp_path: Path, key: str, answers: str, told: str | None) -> None:
    data = prepared(tmp_path, key)
    expected = {f"t{n}": label for n, label in enumerate(answers.split()) if label != "-"}
    assert data.test_labels is not None
    assert load_answers(data.test_labels) == expected
    assert told in data.summary if told else "left out" not in data.summary


def test_a_key_without_a_usable_answer_is_no_key(tmp_path: Path) -> None:
    data = prepared(tmp_path, "id,label\nt0,emu\nt1,fox\n")
    assert data.test_labels is None
    assert "the answer key has no answer that can be scored: no test accuracy" in data.summary


def test_a_key_that_is_no_table_of_labels_is_told(tmp_path: Path) -> None:
    data = prepared(tmp_path, "id,p,q\nt0,1,2\n")
    assert data.test_labels is None
    assert "answer key not used: " in data.summary
