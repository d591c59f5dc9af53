"""Task `images`: any folder of labelled images, from its form as people have it to a prediction."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_prep.digits import write_source
from search import load
from search.cli import guarded
from search.study.fitting import fitted
from search.study.loading import load_study

CLASSES = ("0", "1", "2")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    """300 of scikit-learn's real digits, of three classes, with their labels."""
    folder = tmp_path_factory.mktemp("digits")
    write_source(folder)
    with (folder / "trainLabels.csv").open() as file:
        labels = {row["id"]: row["label"] for row in csv.DictReader(file)}
    chosen = [i for i, label in labels.items() if label in CLASSES][:300]
    return [(folder / "train" / f"{i}.png", labels[i]) for i in chosen]


def class_folders(rows: list[tuple[Path, str]], folder: Path) -> Path:
    """`train/<class>/<id>.png`."""
    for path, label in rows:
        (folder / "train" / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / "train" / label)
    return folder


def forms(rows: list[tuple[Path, str]], folder: Path) -> Iterator[Path]:
    """The same images in the forms that people have them in, as sources."""
    yield class_folders(rows, folder / "folders")
    shutil.make_archive(str(folder / "packed" / "shapes"), "zip", folder / "folders" / "train")
    yield folder / "packed" / "shapes.zip"
    for name, columns, below in (
        ("table", "image_id,species", False),
        ("nested", "file,label", True),
        ("semicolons", "id;label", False),
    ):
        place = folder / name
        lines = [columns]
        sign = ";" if ";" in columns else ","
        for number, (path, label) in enumerate(rows):
            inside = f"part{number % 3}/{path.name}" if below else path.name
            (place / "pics" / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place / "pics" / inside)
            lines.append(f"{inside.removesuffix('.png' if sign == ';' else '')}{sign}{label}")
        (place / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        yield place


def test_every_form_is_the_same_data(
    rows: list[tuple[Path, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = set()
    for source in forms(rows, tmp_path / "in"):
        assert guarded(["prepare", "images", "--source", str(source)], debug=False) == 0
        root = tmp_path / "data" / f"images-{source.stem}"
        record = json.loads((root / "audit.json").read_text())
        found.add((record["fingerprint"], record["counts"]["train"], record["counts"]["valid"]))
        assert (root / "classes.txt").read_text() == "0\n1\n2\n"
        assert record["image_size"] == 8
    assert [(train, valid) for _, train, valid in found] == [(270, 30)]


def test_what_is_trained_goes_by_the_size_and_the_sample(
    rows: list[tuple[Path, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = class_folders(rows, tmp_path / "shapes")
    (source / "test").mkdir()
    for path, _ in rows[:5]:
        shutil.copy(path, source / "test" / f"x{path.name}")
    ids = [f"x{path.stem}" for path, _ in rows[:5]]
    sample = "image,2,0,1\n" + "".join(f"{i},0.3,0.3,0.4\n" for i in ids)
    (source / "sample_submission.csv").write_text(sample)
    assert guarded(["prepare", "images", "--source", "shapes", "--dataset", "mine"], False) == 0
    study = fitted(load_study("images-mine"), tmp_path / "data" / "images-mine")
    assert (study.task, study.trains) == ("images-mine", "ResNet-18 from scratch")
    assert (study.layout.image_size, study.metric, study.submission) == (
        8,
        "valid_loss",
        "probabilities",
    )
    assert load_study("images-other").trains == "a head on a frozen ImageNet network"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prepare", "images"], "images needs --source DIR; once prepared, TASK is images-NAME"),
        (["prepare", "images", "--source", ".", "--dataset", "a/b"], "--dataset a/b: use letters"),
        (["prepare", "images", "--source", "鸟类"], "to name the data set by: add --dataset NAME"),
        (["search", "images-none"], "run `resnet-tune prepare images-none`"),
        (["search", "image"], "did you mean images?"),
    ],
)
def test_mistakes_cost_one_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert guarded(arguments, debug=False) in (1, 2)
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


@pytest.mark.slow
def test_class_folders_to_a_report_and_other_images_predicted(
    rows: list[tuple[Path, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    class_folders(rows, tmp_path / "shapes")
    run = ["run", "images", "--source", "shapes", "--name", "first", "--no-confirm"]
    assert guarded([*run, "--num-samples", "2", "--num-epochs", "2"], debug=False) == 0
    assert "has no test images to predict" in capsys.readouterr().err
    search_dir = tmp_path / "results" / "images-shapes" / "first"
    assert (search_dir / "report.html").is_file()
    assert len(load(search_dir).trials) == 2
    others = tmp_path / "others"
    (others / "x.jpg").mkdir(parents=True)
    for name in ("p1.png", "p1.PNG", "._p1.png"):
        shutil.copy(rows[0][0], others / name)
    (others / "empty.png").touch()
    predict = ["predict", str(search_dir), "--images", str(others), "--out", "out.csv"]
    assert guarded(predict, debug=False) == 0
    told = capsys.readouterr().err
    assert "empty.png: does not decode" in told
    assert "._p1.png" in told
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["id", "p1.PNG", "p1.png"]
