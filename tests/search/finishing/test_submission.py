"""The submission is Kaggle's, or it is not written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from search.finishing.submission import score_submission, write_submission

CLASSES = ("cat", "dog")
PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], dtype=np.float32)


def sample(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sample.csv"
    path.write_text(text)
    return path


def test_labels_in_the_samples_order(tmp_path: Path) -> None:
    order = sample(tmp_path, "id,label\n10,cat\n2,cat\n1,cat\n")
    out = tmp_path / "submission.csv"
    write_submission(out, "label", ["1", "2", "10"], CLASSES, PROBABILITIES, order)
    assert out.read_text() == "id,label\n10,cat\n2,dog\n1,cat\n"


def test_probabilities_in_the_samples_columns_and_sum_to_one(tmp_path: Path) -> None:
    order = sample(tmp_path, "id,dog,cat\nb,0.5,0.5\na,0.5,0.5\n007,0.5,0.5\n")
    out = tmp_path / "submission.csv"
    write_submission(out, "probabilities", ["a", "b", "007"], CLASSES, PROBABILITIES, order)
    table = pd.read_csv(out, dtype={"id": str})
    assert list(table.columns) == ["id", "dog", "cat"]
    assert table["id"].tolist() == ["b", "a", "007"]
    assert table["cat"].tolist() == pytest.approx([0.2, 0.9, 0.6], abs=1e-6)
    assert table[["dog", "cat"]].sum(axis=1).tolist() == pytest.approx([1, 1, 1], abs=1e-8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,dog,cat\na,0,0\nb,0,0\n", "1 predictions are not in the sample"),
        ("id,dog,cat\na,0,0\nb,0,0\nc,0,0\nd,0,0\n", "1 ids of the sample have no prediction"),
        ("id,dog,fox\na,0,0\nb,0,0\nc,0,0\n", "columns differ"),
    ],
)
def test_what_does_not_match_the_sample_is_not_written(
    tmp_path: Path, text: str, message: str
) -> None:
    out = tmp_path / "submission.csv"
    order = sample(tmp_path, text)
    with pytest.raises(ValueError, match=message):
        write_submission(out, "probabilities", ["a", "b", "c"], CLASSES, PROBABILITIES, order)
    assert not out.exists()


def test_not_finite_probabilities_are_refused(tmp_path: Path) -> None:
    broken = PROBABILITIES.copy()
    broken[1, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        write_submission(
            tmp_path / "s.csv", "probabilities", ["a", "b", "c"], CLASSES, broken, None
        )


def test_repeated_and_missing_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="twice"):
        write_submission(tmp_path / "s.csv", "label", ["a", "a", "c"], CLASSES, PROBABILITIES, None)
    with pytest.raises(ValueError, match="no test images"):
        write_submission(tmp_path / "s.csv", "label", [], CLASSES, PROBABILITIES[:0], None)


def test_score_against_an_answer_key(tmp_path: Path) -> None:
    key = sample(tmp_path, "id,label\na,cat\nb,dog\nc,dog\n")
    table = write_submission(
        tmp_path / "s.csv", "probabilities", ["a", "b", "c"], CLASSES, PROBABILITIES, None
    )
    accuracy, log_loss = score_submission(table, "probabilities", key)
    assert accuracy == pytest.approx(2 / 3)
    assert log_loss == pytest.approx(-np.log([0.9, 0.8, 0.4]).mean(), rel=1e-5)
