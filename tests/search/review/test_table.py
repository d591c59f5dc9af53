"""The trial table: order, columns, formats, marks, notes, hostile text, wrong arguments, speed."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from search import Search, load
from search.errors import UsageError
from search.files import read_json, write_json
from search.records.knobs import advice, edge, read_knob
from search.records.ledger import Ledger
from search.records.manifest import KnobEntry
from search.records.outcomes import Outcomes, write_outcomes
from search.records.tables import write_tables
from search.review.table import format_trials
from search.text import compact, duration
from tests.ledgers import BASELINE_CONFIG, CAVEAT, ERROR, make_search

HOSTILE = 'break,"quoted" | <script>alert(1)</script>\nnext line \x1b[31mred \u202edlrow 犬種 😀'


@pytest.fixture
def search(tmp_path: Path) -> Search:
    return load(make_search(tmp_path / "digits" / "first"))


def hostile_search(tmp_path: Path) -> Search:
    """A search whose error, knob value and caveat try to break every format."""
    folder = make_search(tmp_path / "digits" / "hostile", trials=3, info={"caveat": HOSTILE})
    ledger = Ledger(folder / "ledger.jsonl")
    ledger.append("start", "t0099", config={**BASELINE_CONFIG, "schedule": HOSTILE}, origin="user")
    ledger.append("end", "t0099", status="failed", error=HOSTILE)
    ledger.close()
    return load(folder)


def body(text: str) -> list[str]:
    """The rows of a terminal table."""
    return [line for line in text.splitlines() if re.match(r"t\d{4}", line) and ":" not in line]


def test_best_trial_stands_first_and_failed_ones_last(search: Search) -> None:
    rows = json.loads(format_trials([search], style="json"))
    scores = [row["valid_acc"] for row in rows if row["valid_acc"] is not None]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) > 20
    assert all(row["valid_acc"] is None for row in rows[len(scores) :])
    assert len(rows) == 40


def test_the_table_tells_images_from_features(search: Search) -> None:
    assert "path" not in format_trials([search]).splitlines()[2]
    for number, record in enumerate(search.records.values()):
        record.facts["path"] = "features" if number % 2 else "images"
    paths = {
        row["trial_id"]: row["path"] for row in json.loads(format_trials([search], style="json"))
    }
    assert (paths["t0000"], paths["t0001"]) == ("images", "features")
    assert "features" in format_trials([search])
    assert "path" not in format_trials([search], style="csv").splitlines()[0]
    chosen = format_trials([search], style="csv", columns="trial_id,path")
    assert "t0001,features" in chosen.splitlines()


def test_a_loss_sorts_upwards_and_a_minus_turns_it_round(tmp_path: Path) -> None:
    search = load(make_search(tmp_path / "a" / "b", metric="valid_loss"))
    for sort, reverse in ((None, False), ("-valid_loss", True)):
        rows = json.loads(format_trials([search], sort=sort, style="json"))
        losses = [row["valid_loss"] for row in rows if row["valid_loss"] is not None]
        assert losses == sorted(losses, reverse=reverse)


def test_csv_has_the_cells_of_trials_csv(search: Search) -> None:
    write_tables(search)
    text = format_trials([search], style="csv", sort="trial_id")
    assert text == (search.path / "trials.csv").read_text(encoding="utf-8")


def test_top_status_and_columns_choose_rows_and_cells(search: Search) -> None:
    text = format_trials(
        [search], style="csv", status="failed,diverged", columns="trial_id, lr,error"
    )
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == ["trial_id", "config/lr", "error"]
    frame = search.trials
    wanted = frame[frame["status"].isin(["failed", "diverged"])]["trial_id"]
    assert {row["trial_id"] for row in rows} == set(wanted)
    assert len(json.loads(format_trials([search], style="json", top=3))) == 3


def test_a_table_shows_the_searched_knobs_only(search: Search) -> None:
    text = format_trials([search])
    head = " ".join(text.splitlines()[1:4])
    assert "momentum" in head
    assert "nesterov" not in head
    assert "seed" not in head
    assert len(body(text)) == 40


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_the_terminal(tmp_path: Path, search: Search, width: int) -> None:
    text = format_trials([search, hostile_search(tmp_path)], width=width)
    assert max(map(cell_len, text.splitlines())) <= width


def test_what_does_not_fit_is_named(search: Search) -> None:
    assert "not shown at this width: valid_loss, seconds, lr_period" in " ".join(
        format_trials([search], width=80).split()
    )
    assert "not shown" not in format_trials([search], width=160)


def test_notes_say_counts_best_baseline_reason_and_caveat(search: Search) -> None:
    text = format_trials([search])
    counts = search.trials["status"].value_counts()
    assert f"{counts['stopped']} stopped" in text
    assert search.best is not None
    assert (
        f"best {search.best['trial_id']}: valid_acc {search.best['metrics']['valid_acc']:.4f}"
        in text
    )
    assert f"failed: {ERROR}" in text
    assert f"note: {CAVEAT}" in text
    assert "t0000*" in text
    assert "* the baseline" in text


def test_an_inactive_knob_shows_a_dash(search: Search) -> None:
    text = format_trials([search], columns="trial_id,schedule,lr_period")
    for line in body(text):
        _, schedule, period = line.split()
        assert (period == "-") == (schedule != "step")


def test_several_searches_have_a_column_for_the_search(tmp_path: Path) -> None:
    dirs = [make_search(tmp_path / "digits" / name, trials=5) for name in ("one", "two")]
    searches = [load(d) for d in dirs]
    rows = json.loads(format_trials(searches, style="json"))
    assert {row["search"] for row in rows} == {"digits/one", "digits/two"}
    text = format_trials(searches, style="csv", sort="search")
    assert [r["search"] for r in csv.DictReader(io.StringIO(text))][::9] == [
        "digits/one",
        "digits/two",
    ]
    assert format_trials(searches).count("digits/two") == 6


def test_edges_are_seen_on_the_scale_of_the_range() -> None:
    lr = {"name": "FloatDistribution", "attributes": {"low": 1e-3, "high": 0.5, "log": True}}
    knob = read_knob("lr", KnobEntry(distribution=json.dumps(lr)))
    assert edge(knob, 0.49) == "high"
    assert edge(knob, 0.0011) == "low"
    assert edge(knob, 0.005) is None  # within 1 % of the linear range, but not of the log one
    assert "try --range lr=0.001..2.5:log" in advice(knob, 0.49, "high")
    assert "try --range lr=2e-4..0.5:log" in advice(knob, 0.0011, "low")


def test_edges_of_choices_need_three_numbers() -> None:
    def choices(*values: Any) -> Any:
        described = {"name": "CategoricalDistribution", "attributes": {"choices": values}}
        return read_knob("k", KnobEntry(distribution=json.dumps(described)))

    assert edge(choices(32, 64, 128), 128) == "high"
    assert edge(choices(32, 64), 64) is None
    assert edge(choices("a", "b", "c"), "a") is None
    assert edge(choices(False, True), True) is None


def test_the_best_at_an_edge_brings_advice(tmp_path: Path) -> None:
    folder = make_search(tmp_path / "digits" / "edge", trials=1)
    ledger = Ledger(folder / "ledger.jsonl")
    ledger.append("start", "t0001", config={**BASELINE_CONFIG, "lr": 0.499}, origin="sampler")
    for epoch in range(1, 10):
        metrics = {"epoch": epoch, "valid_acc": 1.0, "valid_loss": 0.1, "train_loss": 0.1}
        ledger.append("report", "t0001", metrics=metrics)
    ledger.append("end", "t0001", status="completed")
    ledger.close()
    text = format_trials([load(folder)])
    assert "0.499!" in text
    assert "! best lr=0.499 lies at the upper edge of 0.001..0.5:log" in text


def test_hostile_text_survives_csv_and_json_and_cannot_steer_a_terminal(tmp_path: Path) -> None:
    search = hostile_search(tmp_path)
    for style in ("csv", "json"):
        text = format_trials([search], style=style, status="failed")
        rows = list(csv.DictReader(io.StringIO(text))) if style == "csv" else json.loads(text)
        row = next(row for row in rows if row["trial_id"] == "t0099")
        assert row["error"] == HOSTILE
        assert row["config/schedule"] == HOSTILE
    for style in ("table", "md"):
        text = format_trials([search], style=style, columns="trial_id,error,schedule")
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "犬種 😀" in text
    assert "<script>" not in format_trials([search], style="md").replace("\\<script\\>", "")
    columns = [
        line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")
    ]
    assert set(columns) == {4}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sort": "speed"}, "--sort 'speed': choose from trial_id, status"),
        ({"status": "broken"}, "--status 'broken': choose from completed"),
        ({"columns": "lr,speed"}, "--columns 'speed': choose from"),
        ({"style": "xml"}, "--format 'xml': choose from table, csv, json, md"),
    ],
)
def test_wrong_arguments_list_the_choices(search: Search, options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        format_trials([search], **options)
    assert "\n" not in str(caught.value)


def test_a_search_without_trials_is_an_empty_table(tmp_path: Path) -> None:
    search = load(make_search(tmp_path / "digits" / "empty", trials=0, status="running"))
    assert "0 trials" in format_trials([search], width=80)
    assert "interrupted" in format_trials([search])  # says running, but nobody runs it
    assert json.loads(format_trials([search], style="json")) == []
    assert format_trials([search], style="csv").startswith("trial_id,status,epochs,")


def test_only_a_terminal_gets_colours(search: Search) -> None:
    assert "\x1b" not in format_trials([search], width=80)
    assert "\x1b[1;32m" in format_trials([search], width=80, color=True)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.000123456, "1.23e-4"),
        (5e-4, "5e-4"),
        (0.1, "0.1"),
        (123456.0, "1.23e5"),
        (True, "True"),
        (64, "64"),
    ],
)
def test_numbers_are_short(value: Any, text: str) -> None:
    assert compact(value) == text


def test_durations_are_short() -> None:
    spans = [0.04, 9.97, 185, 3600 * 2 + 7 * 60, 86400 * 3 + 3600 * 4, float("nan")]
    assert [duration(s) for s in spans] == ["0.0s", "10s", "3m05s", "2h07m", "3d04h", "-"]


def test_ten_thousand_trials_open_without_heavy_imports(tmp_path: Path) -> None:
    folder = make_search(tmp_path / "digits" / "big", trials=10_000, epochs=5)
    code = (
        "import sys; from search import load; from search.review.table import print_trials;"
        "print_trials([load(sys.argv[1])], top=5);"
        "heavy = {'torch', 'ray', 'optuna', 'plotly', 'pandas'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert done.returncode == 0, done.stderr
    assert "10000 trials" in done.stdout
    assert time.monotonic() - begun < 8  # 1 s alone; the machine may be busy


def test_a_damaged_search_json_is_one_clear_line(tmp_path: Path) -> None:
    folder = make_search(tmp_path / "digits" / "torn", trials=2)
    info = read_json(folder / "search.json")
    del info["space"]
    write_json(folder / "search.json", info)
    with pytest.raises(
        ValueError, match=r"search.json cannot be used \(space: Field required\); restore the file$"
    ):
        load(folder)


def test_trials_that_the_images_do_not_tell_from_the_best_are_marked(search: Search) -> None:
    assert "paired" not in format_trials([search])
    completed = [s for s in search.ranking if s.record.status == "completed"][:3]
    best, alike, worse = (scored.record.trial_id for scored in completed)
    for trial_id, losses, right in (
        (best, [0.1, 0.2, 0.3, 0.4], [1, 1, 1, 0]),
        (alike, [0.2, 0.1, 0.3, 0.4], [1, 1, 0, 1]),
        (worse, [1.1, 1.2, 1.3, 1.5], [0, 0, 0, 0]),
    ):
        epoch = search.records[trial_id].best_epoch("valid_acc", "max") or 0
        write_outcomes(search.path, Outcomes(trial_id, epoch, tuple(losses), tuple(right)))
    found = load(search.path)
    text = format_trials([found])
    rows = {line.split()[0] for line in body(text)}
    assert {f"{best}*", f"{alike}~", worse} <= rows
    lead = (
        f"{best} by valid_acc: 0.0000 +- 0.4082 better than {alike} (paired, 4 images; valid_loss"
    )
    assert lead in text
    assert f"these images do not tell {best} from {alike}" in text
    assert "~ not told from the best by the images of valid" in text
    assert json.loads(format_trials([found], style="json", top=2))[1]["trial_id"] == alike
