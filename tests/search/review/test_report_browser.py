"""The report in a real browser: drawn, silent, sortable; on both sizes and in both schemes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from search import load
from search.records.ledger import Ledger
from search.review.report import write_report
from tests.ledgers import BASELINE_CONFIG, make_search, save_verdicts

pytest.importorskip("playwright", reason="playwright is not installed")
from tests.browser import CHROMIUM, opened  # noqa: E402

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
NAUGHTY = '<img src=x onerror="window.broken=1"><script>window.broken=1</script>'


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "digits" / "first"
    make_search(folder, info={"caveat": NAUGHTY})
    ledger = Ledger(folder / "ledger.jsonl")
    config = {**BASELINE_CONFIG, "schedule": NAUGHTY}
    ledger.append("start", "t0099", config=config, origin="user")
    metrics = {"epoch": 1, "valid_acc": 0.99, "valid_loss": 0.1, "train_loss": 0.1}
    ledger.append("report", "t0099", metrics=metrics)
    ledger.append("end", "t0099", status="failed", error=NAUGHTY)
    ledger.close()
    save_verdicts(folder, folder.parent / "data", [NAUGHTY.replace("/", "|"), "1", "2"])
    return write_report([load(folder)], folder / "report.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 400])
def test_all_figures_are_drawn_without_a_word_or_a_network(
    report: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    with opened(report, width, scheme) as found:
        page = found.page
        specs = json.loads(str(page.text_content("#plot-data")))
        assert len(specs) > 10
        assert page.get_attribute("html", "data-drawn") == str(len(specs))
        for spec in specs:
            drawn: Any = page.evaluate(
                """name => {
                    const plot = document.getElementById("plot-" + name);
                    const marks = plot.querySelectorAll(
                        ".scatterlayer .js-line, .points path, .heatmaplayer image");
                    const box = plot.querySelector(".main-svg").getBoundingClientRect();
                    const titles = [...plot.querySelectorAll(".xtitle, .ytitle")];
                    return {marks: marks.length, width: box.width, height: box.height,
                            titles: titles.map(t => t.textContent)};
                }""",
                spec["name"],
            )
            assert drawn["marks"] > 0, spec["name"]
            assert drawn["height"] > 100, spec["name"]
            assert len(drawn["titles"]) == 2, spec["name"]
        assert found.complaints == []
        assert [url for url in found.requests if not url.startswith(("file:", "data:"))] == []
        assert page.evaluate("window.broken") is None
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(int(part) for part in background[4:-1].split(","))
        assert (brightness < 150) == (scheme == "dark")
        text = page.evaluate("getComputedStyle(document.querySelector('.xtick text')).fill")
        lightness = sum(int(part) for part in text[4:-1].split(","))
        assert (lightness > 500) == (scheme == "dark")


def first_column(page: Any, column: int = 1) -> list[str]:
    cells = page.query_selector_all(f"#trials tbody td:nth-child({column})")
    return [str(cell.text_content()) for cell in cells]


def test_sorting_and_filtering_change_the_rows(report: Path) -> None:
    with opened(report) as found:
        page = found.page
        before = first_column(page)
        assert len(before) == 41
        assert "t0099 (best)" not in before  # a failed trial is never the best
        page.click("#trials th button:text-is('lr')")
        heads = [str(h.text_content()) for h in page.query_selector_all("#trials th")]
        rising = [float(text) for text in first_column(page, heads.index("lr") + 1)]
        assert rising == sorted(rising)
        assert first_column(page) != before
        page.click("#trials th button:text-is('lr')")
        falling = [float(text) for text in first_column(page, heads.index("lr") + 1)]
        assert falling == sorted(rising, reverse=True)
        page.fill("#filter", "out of memory")
        assert 0 < len(first_column(page)) < 10
        page.fill("#filter", "valid_acc>0.9 completed")
        scores = [float(text) for text in first_column(page, heads.index("valid_acc") + 1)]
        assert scores
        assert min(scores) > 0.9
        page.fill("#filter", "")
        page.select_option("#status", "diverged")
        assert set(first_column(page, 2)) == {"diverged"}
        assert "of 41" in str(page.text_content("#count")) or "41 in all" in str(
            page.text_content("#count")
        )
        page.select_option("#status", "")
        page.fill("#filter", "window.broken")
        assert any(NAUGHTY in text for text in first_column(page, len(heads)))
        assert page.evaluate("window.broken") is None


def test_the_colours_follow_the_system_while_the_page_is_open(report: Path) -> None:
    script = "getComputedStyle(document.querySelector('.xtick text')).fill"
    with opened(report, scheme="light") as found:
        light = found.page.evaluate(script)
        found.page.emulate_media(color_scheme="dark")
        found.page.wait_for_function(f"{script} !== '{light}'", timeout=10_000)


def test_it_prints(report: Path, tmp_path: Path) -> None:
    with opened(report, scheme="dark") as found:
        found.page.pdf(path=tmp_path / "report.pdf")
        assert (tmp_path / "report.pdf").stat().st_size > 50_000
        assert found.complaints == []


def test_a_long_table_shows_its_head_until_asked(tmp_path: Path) -> None:
    folder = make_search(tmp_path / "digits" / "long", trials=300, epochs=3)
    with opened(write_report([load(folder)], tmp_path / "long.html")) as found:
        assert len(first_column(found.page)) == 100
        found.page.click("#all")
        assert len(first_column(found.page)) == 300


def test_two_searches_are_drawn_beside_each_other(tmp_path: Path) -> None:
    dirs = [make_search(tmp_path / "digits" / str(n), trials=20, seed=n) for n in (1, 2)]
    out = write_report([load(d) for d in dirs], tmp_path / "both.html")
    with opened(out, width=400) as found:
        for name in ("compare-epochs", "compare-time"):
            assert len(found.page.query_selector_all(f"#plot-{name} .scatterlayer .js-line")) == 2
        assert found.complaints == []
