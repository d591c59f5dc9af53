"""The submission is Kaggle's, in the sample's own words, or it is not written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_prep.sample_submission import SampleSubmission, understand_sample
from data_prep.tables import read_table
from search.finishing.submission import Predictions, make_submission, score

CLASSES = ("cat", "dog")
PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], dtype=np.float32)


def predictions(*ids: str) -> Predictions:
    return Predictions.of(ids, CLASSES, PROBABILITIES[: len(ids)])


def sample(tmp_path: Path, text: str, *ids: str) -> SampleSubmission:
    """What `prepare` understands of a sample, where there are test images of these ids."""
    path = tmp_path / "sample.csv"
    path.write_text(text)
    return understand_sample(read_table(path), {f"{i}.png": i for i in ids}, CLASSES)[0]


def test_labels_in_the_samples_order(tmp_path: Path) -> None:
    order = sample(tmp_path, "id,label\n10,cat\n2,cat\n1,cat\n", "1", "2", "10")
    out = tmp_path / "submission.csv"
    make_submission("label", predictions("1", "2", "10"), order).write(out)
    assert out.read_text() == "id,label\n10,cat\n2,dog\n1,cat\n"


def test_the_samples_own_names_suffixes_and_kind(tmp_path: Path) -> None:
    order = sample(tmp_path, "image_id;Category\nb.png;0\na.png;0\n", "a", "b")
    out = tmp_path / "submission.csv"
    make_submission("probabilities", predictions("a", "b"), order).write(out)
    assert out.read_text() == "image_id,Category\nb.png,dog\na.png,cat\n"


def test_probabilities_in_the_samples_columns_and_sum_to_one(tmp_path: Path) -> None:
    text = "id,dog,cat\nb,0.5,0.5\na,0.5,0.5\n007,0.5,0.5\n"
    order = sample(tmp_path, text, "a", "b", "007")
    out = tmp_path / "submission.csv"
    make_submission("probabilities", predictions("a", "b", "007"), order).write(out)
    table = pd.read_csv(out, dtype={"id": str})
    assert list(table.columns) == ["id", "dog", "cat"]
    assert table["id"].tolist() == ["b", "a", "007"]
    assert table["cat"].tolist() == pytest.approx([0.2, 0.9, 0.6], abs=1e-6)
    assert table[["dog", "cat"]].sum(axis=1).tolist() == pytest.approx([1, 1, 1], abs=1e-8)


def test_a_class_without_images_gets_nothing_and_an_id_without_image_the_frequencies(
    tmp_path: Path,
) -> None:
    order = sample(tmp_path, "id,cat,fox,dog\na,0,0,0\nx,0,0,0\n", "a")
    made = make_submission("probabilities", predictions("a"), order, {"cat": 0.75, "dog": 0.25})
    assert made.header == ("id", "cat", "fox", "dog")
    assert made.values is not None
    np.testing.assert_allclose(made.values, [[0.9, 0, 0.1], [0.75, 0, 0.25]], atol=1e-7)


def test_a_class_that_is_called_id(tmp_path: Path) -> None:
    certain = np.array([[0.75, 0.25]], dtype=np.float32)
    out = tmp_path / "s.csv"
    make_submission("probabilities", Predictions.of(["a"], ("id", "dog"), certain)).write(out)
    assert out.read_text() == "id,id,dog\na,0.75,0.25\n"


def test_not_finite_probabilities_are_refused() -> None:
    broken = PROBABILITIES.copy()
    broken[1, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        Predictions.of(["a", "b", "c"], CLASSES, broken)


def test_repeated_and_missing_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        make_submission("label", predictions("a", "a", "c"))
    with pytest.raises(ValueError, match="no test images"):
        make_submission("label", Predictions.of([], CLASSES, PROBABILITIES[:0]))


def test_score_against_an_answer_key() -> None:
    accuracy, log_loss = score(predictions("a", "b", "c"), {"a": "cat", "b": "dog", "c": "dog"})
    assert accuracy == pytest.approx(2 / 3)
    assert log_loss == pytest.approx(-np.log([0.9, 0.8, 0.4]).mean(), rel=1e-5)
    assert score(predictions("a", "b", "c"), {"a": "cat"})[0] == 1
    with pytest.raises(ValueError, match="none of the test images"):
        score(predictions("a"), {"z": "cat"})
