"""The report: its numbers, its figures, and that no text can break out of the page."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from search import Search, load
from search.files import write_json
from search.records.ledger import Ledger
from search.review.figures.overview import search_plots
from search.review.figures.style import label, thinned, value_range
from search.review.importance import comparable_epochs, importance_at, importances, ranks
from search.review.predictions import Verdicts, load_verdicts, thumbnail
from search.review.report import embedded, write_report
from search.review.timeline import build_timeline
from tests.ledgers import BASELINE_CONFIG, make_search, save_verdicts

HOSTILE = (
    '</script><script>alert("x")</script><img src=x onerror=alert(1)> 犬種, "q" \'s\' &'
    " \u2028\n<!--"
)


@pytest.fixture
def search(tmp_path: Path) -> Search:
    return load(make_search(tmp_path / "digits" / "first"))


class Page(HTMLParser):
    """The tags of a page, its text outside of scripts, and its scripts by id."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: dict[str, str] = {}
        self.inside: str | None = None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside = dict(attrs).get("id") or tag

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self.inside = None

    def handle_data(self, data: str) -> None:
        if self.inside is None:
            self.text += data
        else:
            self.scripts[self.inside] = self.scripts.get(self.inside, "") + data


def report_event(time: float, trial: str, value: float, epoch: int = 1) -> dict[str, Any]:
    metrics = {"epoch": epoch, "valid_acc": value}
    return {"event": "report", "time": time, "trial": trial, "metrics": metrics}


def test_the_timeline_leaves_out_the_pause_between_sessions() -> None:
    events = [
        {"event": "session", "time": 100.0},
        report_event(110, "t0000", 0.5),
        report_event(120, "t0001", math.nan),
        {"event": "end", "time": 121.0, "trial": "t0001", "status": "diverged"},
        {"event": "session", "time": 9000.0},
        report_event(9010, "t0002", 0.7),
        report_event(9020, "t0003", 0.6),
    ]
    spent = build_timeline(events, "valid_acc", "max")
    assert spent.seconds.tolist() == [10, 20, 31, 41]
    assert spent.best.tolist() == [0.5, 0.5, 0.7, 0.7]
    assert spent.last == {"t0000": 10, "t0001": 20, "t0002": 31, "t0003": 41}
    assert spent.spent.tolist() == [1, 2, 3, 4]
    assert spent.improvements().tolist() == [0, 2, 3]
    lower = build_timeline(events, "valid_acc", "min")
    assert lower.best.tolist() == [0.5, 0.5, 0.5, 0.5]


def test_importance_finds_the_knob_that_matters_and_says_how_sure_it_is(tmp_path: Path) -> None:
    search = load(make_search(tmp_path / "digits" / "many", trials=120))
    first, last = importances(search)
    assert first.epoch == 1
    assert last.epoch == 9
    assert first.trials > last.trials >= 16
    for item in (first, last):
        assert max(item.mean, key=item.mean.__getitem__) == "lr"
        assert all(item.low[k] <= item.high[k] for k in item.mean)
        assert item.mean["label_smoothing"] < 0.2 * item.mean["lr"]
    assert first.skill > 0.6
    assert importance_at(search, 1) == first  # the same seed, the same figure


def test_importance_has_no_skill_where_scores_are_noise(tmp_path: Path) -> None:
    folder = make_search(tmp_path / "digits" / "noise", trials=0)
    ledger, rng = Ledger(folder / "ledger.jsonl"), np.random.default_rng(3)
    for number in range(60):
        config = {**BASELINE_CONFIG, "lr": float(rng.uniform(0.01, 0.5))}
        ledger.append("start", f"t{number:04d}", config=config, origin="sampler")
        metrics = {"epoch": 1, "valid_acc": float(rng.uniform())}
        ledger.append("report", f"t{number:04d}", metrics=metrics)
        ledger.append("end", f"t{number:04d}", status="stopped")
    ledger.close()
    search = load(folder)
    assert importances(search)[0].skill < 0.1
    reading = next(p.reading for p in search_plots(search) if p.name == "importance")
    assert reading.startswith("Too few trials to tell")


def test_few_trials_have_no_importance(tmp_path: Path) -> None:
    search = load(make_search(tmp_path / "digits" / "few", trials=5))
    assert comparable_epochs(search) == []
    assert importances(search) == []


def test_equal_scores_share_a_rank_and_diverged_ones_are_worst() -> None:
    assert ranks(np.array([0.3, -math.inf, 0.3, 0.9])).tolist() == [0.5, 0.0, 0.5, 1.0]


def test_every_figure_has_labelled_axes_and_a_reading(search: Search) -> None:
    plots = search_plots(search)
    names = [plot.name for plot in plots]
    assert names[:5] == ["history", "curves", "parallel", "importance", "costs"]
    assert [n for n in names if n.startswith("slice-")] == [f"slice-{k}" for k in search.knobs]
    for plot in plots:
        assert plot.figure.layout.xaxis.title.text
        assert plot.figure.layout.yaxis.title.text
        assert plot.reading.endswith(".")
        assert len(plot.reading) > 20


def test_notebooks_get_the_same_figures(search: Search) -> None:
    assert list(search.figures) == [plot.name for plot in search_plots(search)]


def test_what_is_thinned_out_keeps_the_best_and_is_said(tmp_path: Path) -> None:
    assert thinned(list(range(10)), 20) == list(range(10))
    picks = thinned(list(range(1000)), 90)
    assert picks[:30] == list(range(30))
    assert len(picks) == 90
    assert picks[-1] == 999
    search = load(make_search(tmp_path / "digits" / "many", trials=400, epochs=3))
    readings = {plot.name: plot.reading for plot in search_plots(search)}
    assert "Drawn: 250 of" in readings["curves"]
    assert "Drawn: 300 of" in readings["parallel"]


def test_axis_ranges_show_the_better_part() -> None:
    values = [*np.linspace(0.1, 0.5, 95), *[50.0] * 5]
    low, high = value_range(values, "min")
    assert low < 0.1
    assert high < 1
    assert value_range([0.5, 0.5], "max")[0] < 0.5


def test_labels_cannot_be_markup() -> None:
    assert label("<b>a</b>\nb & c") == "&lt;b&gt;a&lt;/b&gt; b &amp; c"
    assert label("x" * 100) == "x" * 39 + "…"


def test_embedded_json_cannot_end_its_script() -> None:
    text = embedded({"error": HOSTILE, "nan": math.nan})
    assert "<" not in text
    assert json.loads(text) == {"error": HOSTILE, "nan": None}


def verdicts() -> Verdicts:
    """Six images of three classes: two of class a are called b, one of them surely."""
    probabilities = [
        [0.1, 0.9, 0.0],
        [0.4, 0.6, 0.0],
        [0.8, 0.1, 0.1],
        [0.0, 1.0, 0.0],
        [0.2, 0.2, 0.6],
        [0.5, 0.1, 0.4],
    ]
    labels = np.array([0, 0, 0, 1, 2, 2])
    return Verdicts(tuple("uvwxyz"), labels, np.array(probabilities), ("a", "b", "c"))


def test_verdicts_count_confusions_and_calibration() -> None:
    found = verdicts()
    assert found.confusion().tolist() == [[1, 2, 0], [0, 1, 0], [1, 0, 1]]
    assert found.confused_pairs() == [("a", "b", 2, 3), ("c", "a", 1, 2)]
    assert [found.ids[i] for i in found.worst()] == ["u", "v", "z"]
    gaps = [abs(0.5 - 0.0), abs(0.6 - 0.5) * 2, abs(0.8 - 1.0), abs(0.95 - 0.5) * 2]
    assert found.calibration_error == pytest.approx(sum(gaps) / 6)


def test_thumbnails_are_small_and_missing_ones_are_none(tmp_path: Path) -> None:
    folder = tmp_path / "valid" / "dog [1]"
    folder.mkdir(parents=True)
    Image.new("CMYK", (600, 400)).save(folder / "a.b.jpg")
    (folder / "broken.jpg").write_bytes(b"no image")
    classes = ("dog [1]", "dog/wolf", "..")
    uri = thumbnail(tmp_path, "dog [1]", "a.b", classes)
    assert uri is not None
    assert uri.startswith("data:image/jpeg;base64,")
    assert len(uri) < 4000
    assert thumbnail(tmp_path, "dog [1]", "broken", classes) is None
    assert thumbnail(tmp_path, "dog [1]", "absent", classes) is None
    (tmp_path / "valid" / "dog%2Fwolf").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "valid" / "dog%2Fwolf" / "north%2F7.png")
    assert thumbnail(tmp_path, "dog/wolf", "north/7", classes) is not None
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    assert thumbnail(tmp_path, "..", "secret", classes) is None


def test_a_damaged_predictions_file_is_one_clear_line(search: Search) -> None:
    (search.path / "retrain").mkdir()
    assert load_verdicts(search) is None
    (search.path / "retrain" / "valid_predictions.npz").write_bytes(b"torn")
    with pytest.raises(ValueError, match="valid_predictions.npz is damaged"):
        load_verdicts(search)
    page = write_report([search], search.path / "report.html").read_text()
    assert "valid_predictions.npz is damaged" in page
    assert "the report goes without its predictions" in page


def test_the_page_is_one_file_that_asks_for_nothing(search: Search, tmp_path: Path) -> None:
    save_verdicts(search.path, tmp_path / "digits" / "data", ["0", "1", "2"])
    out = write_report([search], tmp_path / "out" / "report.html")
    assert out.stat().st_size < 3e6
    page = Page(out)
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith("data:"), (tag, value)
    assert "url(" not in page.scripts["style"]
    for wanted in (
        "Best configuration against the baseline",
        "Importance of each knob",
        "Where the time went",
        "Accuracy of each class",
        "Confusion matrix",
        "Reliability diagram",
        "most confidently wrong images",
        "torch 2.14.1",
        "an ImageNet backbone has seen",
    ):
        assert wanted in page.text
    assert len(json.loads(page.scripts["table-data"])["rows"]) == 40
    assert str(tmp_path) not in page.text  # whose machine it was is nobody's business


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    clean = write_report([load(make_search(tmp_path / "a" / "b"))], tmp_path / "clean.html")
    folder = make_search(
        tmp_path / "a" / "c",
        info={"caveat": HOSTILE, "command": (HOSTILE,), "name": HOSTILE},
    )
    ledger = Ledger(folder / "ledger.jsonl")
    config = {**BASELINE_CONFIG, "schedule": HOSTILE, HOSTILE: 1}
    ledger.append("start", "t0099", config=config, origin="user")
    metrics = {"epoch": 1, "valid_acc": 2.0, "valid_loss": 0.1, "train_loss": 0.1}
    ledger.append("report", "t0099", metrics=metrics)
    ledger.append("end", "t0099", status="failed", error=HOSTILE)
    ledger.close()
    save_verdicts(folder, tmp_path / "a" / "data", [HOSTILE.replace("/", ""), "b", "c"])
    page = Page(write_report([load(folder)], tmp_path / "hostile.html"))
    scripts = [tag for tag, _ in Page(clean).tags if tag == "script"]
    assert [tag for tag, _ in page.tags if tag == "script"] == scripts
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert HOSTILE.split("\n")[0] in page.text
    rows = json.loads(page.scripts["table-data"])["rows"]
    assert any(HOSTILE in row for row in rows)


@pytest.mark.parametrize("trials", [0, 1])
def test_a_search_that_has_just_begun_has_a_page(tmp_path: Path, trials: int) -> None:
    folder = make_search(tmp_path / "digits" / "new", trials=0, status="running")
    if trials:
        ledger = Ledger(folder / "ledger.jsonl")
        ledger.append("start", "t0000", config=BASELINE_CONFIG, origin="baseline")
        ledger.close()
    page = Page(write_report([load(folder)], tmp_path / "report.html"))
    assert "no trial has a finite valid_acc" in page.text
    assert "The search is unfinished" in page.text


def test_searches_of_different_metrics_do_not_compare(tmp_path: Path, search: Search) -> None:
    other = load(make_search(tmp_path / "digits" / "loss", metric="valid_loss"))
    with pytest.raises(ValueError, match="different metrics"):
        write_report([search, other], tmp_path / "x.html")


def test_two_searches_stand_beside_each_other(tmp_path: Path, search: Search) -> None:
    other = load(make_search(tmp_path / "digits" / "second", seed=7))
    page = Page(write_report([search, other], tmp_path / "x.html"))
    assert "Best over epochs spent" in page.text
    assert "Best over wall time" in page.text
    assert "is ahead" in page.text
    assert len(json.loads(page.scripts["table-data"])["rows"]) == 80


def test_retraining_is_told(tmp_path: Path, search: Search) -> None:
    (search.path / "retrain").mkdir()
    metadata = {"trial_id": "t0007", "images": 1000, "epochs": 7, "seconds": 61.0}
    write_json(search.path / "retrain" / "metadata.json", metadata)
    page = Page(write_report([search], tmp_path / "x.html"))
    assert "The retrained model" in page.text
    assert "1,000 images of train_valid" in page.text
