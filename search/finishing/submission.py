"""Predicted probabilities -> the checked table that Kaggle accepts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from search.files import replacing

Kind = Literal["label", "probabilities"]
SUM_TOLERANCE = 1e-4


def make_submission(
    kind: Kind, ids: Sequence[str], classes: Sequence[str], probabilities: NDArray[np.float32]
) -> pd.DataFrame:
    """One row a test image: `id,label`, or `id` and one probability column a class.

    `probabilities` is (N, C), N = len(ids), C = len(classes).
    """
    id_column = pd.Series(list(ids), name="id", dtype=str)
    if kind == "label":
        labels = [classes[i] for i in probabilities.argmax(axis=1)]
        return pd.DataFrame({"id": id_column, "label": labels})
    normalised = probabilities.astype(np.float64)
    normalised /= normalised.sum(axis=1, keepdims=True)
    return pd.concat([id_column, pd.DataFrame(normalised, columns=list(classes))], axis=1)


def read_sample(path: Path) -> pd.DataFrame:
    """The sample submission with ids as text. Raises ValueError when it is no such table."""
    try:
        sample = pd.read_csv(path, dtype={0: str}, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise ValueError(f"sample submission {path} cannot be read: {error}") from None
    return sample.rename(columns={sample.columns[0]: "id"}).astype({"id": str})


def like_sample(submission: pd.DataFrame, sample: pd.DataFrame) -> pd.DataFrame:
    """The submission with its rows and columns in the sample's order.

    Raises ValueError when ids or columns are not the same set.
    """
    ours, theirs = set(submission["id"]), set(sample["id"])
    if ours != theirs or len(submission) != len(sample):
        missing, extra = sorted(theirs - ours), sorted(ours - theirs)
        raise ValueError(
            f"submission not written: {len(missing)} ids of the sample have no prediction"
            f" {missing[:3]} and {len(extra)} predictions are not in the sample {extra[:3]};"
            " is the test folder complete?"
        )
    if set(submission.columns) != set(sample.columns):
        difference = sorted(set(submission.columns) ^ set(sample.columns))
        raise ValueError(
            f"submission not written: columns differ from the sample submission: {difference[:5]}"
        )
    ordered = submission.set_index("id").loc[sample["id"].tolist()].reset_index()
    return ordered[list(sample.columns)]


def check_submission(
    submission: pd.DataFrame, kind: Kind, classes: Sequence[str], sample: pd.DataFrame | None
) -> None:
    """Raise ValueError unless Kaggle would accept the table, and it means what it says."""
    if submission.empty:
        raise ValueError("submission not written: there are no test images")
    if submission["id"].duplicated().any():
        raise ValueError("submission not written: an id appears twice")
    if sample is not None and (
        submission["id"].tolist() != sample["id"].tolist()
        or list(submission.columns) != list(sample.columns)
    ):
        raise ValueError("submission not written: ids or columns are not in the sample's order")
    if kind == "label":
        unknown = sorted(set(submission["label"]) - set(classes))
        if unknown:
            raise ValueError(f"submission not written: unknown class names {unknown[:3]}")
        return
    values = submission.drop(columns="id").to_numpy(dtype=np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("submission not written: a probability is not finite or negative")
    if np.abs(values.sum(axis=1) - 1).max() > SUM_TOLERANCE:
        raise ValueError("submission not written: probabilities of an image do not sum to 1")


def write_submission(
    path: Path,
    kind: Kind,
    ids: Sequence[str],
    classes: Sequence[str],
    probabilities: NDArray[np.float32],
    sample_csv: Path | None,
) -> pd.DataFrame:
    """Make, check and write the submission; return it. Raises ValueError as the checks do."""
    submission = make_submission(kind, ids, classes, probabilities)
    sample = read_sample(sample_csv) if sample_csv is not None else None
    if sample is not None:
        submission = like_sample(submission, sample)
    check_submission(submission, kind, classes, sample)
    with replacing(path) as aside:
        submission.to_csv(aside, index=False, float_format="%.9g")
    return submission


def score_submission(
    submission: pd.DataFrame, kind: Kind, answer_key: Path
) -> tuple[float, float | None]:
    """Accuracy and, for probabilities, log loss against an answer key (`id,label`)."""
    key = pd.read_csv(answer_key, dtype=str, keep_default_na=False)
    answers = submission["id"].map(dict(zip(key.iloc[:, 0], key.iloc[:, 1], strict=True)))
    known = answers.notna()
    if not known.any():
        raise ValueError(f"answer key {answer_key} has none of the submission's ids")
    rows = submission[known]
    if kind == "label":
        return float((rows["label"] == answers[known]).mean()), None
    table = rows.drop(columns="id")
    columns = table.columns.get_indexer(pd.Index(answers[known]))
    picked = table.to_numpy()[np.arange(len(table)), columns]
    accuracy = float((table.idxmax(axis=1) == answers[known]).mean())
    return accuracy, float(-np.log(np.clip(picked, 1e-15, 1)).mean())
