"""The load test's page as Chromium shows it; skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import CHROMIUM, WHY_SKIPPED, Chromium
from load_sample import load_report

from forebay.report import render_load_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=WHY_SKIPPED)

A4_PX = 794  # 210 mm at 96 px an inch
SHOWN_CHARTS = """
[...document.querySelectorAll('svg.chart')]
  .map(chart => [chart.getBoundingClientRect(), chart])
  .filter(([box, chart]) => getComputedStyle(chart).display !== 'none')
  .map(([box, chart]) => ({
    name: chart.getAttribute('aria-label').split('.')[0],
    width: box.width, height: box.height,
    marks: [...chart.querySelectorAll('path.line, path.dots, path.fill')]
      .filter(mark => mark.getBBox().width + mark.getBBox().height > 0).length,
    outside: [...chart.querySelectorAll('text')]
      .filter(text => {
        const at = text.getBoundingClientRect();
        return at.left < box.left - 1 || at.right > box.right + 1 || at.top < box.top - 1;
      })
      .map(text => text.textContent),
  }))
"""
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
CUT_TABLES = """
[...document.querySelectorAll('.table')].filter(box => box.scrollWidth > box.clientWidth + 1)
  .map(box => box.querySelector('caption').textContent)
"""
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
INK = "getComputedStyle(document.body).color"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "report.html"
    reasons = ["the client was late: lag p99 31 ms, above 20.0 ms"]
    report = load_report(max_num_seqs=64, valid=False, validity_reasons=reasons)
    path.write_text(render_load_page(report), "utf-8")
    return path


WAYS: dict[str, dict[str, Any]] = {
    "wide": {"width": 1280},
    "dark": {"width": 1280, "scheme": "dark"},
    "phone": {"width": 390},
    "print": {"width": A4_PX, "media": "print"},
    "print in the dark": {"width": A4_PX, "media": "print", "scheme": "dark"},
}


@pytest.mark.parametrize("way", WAYS)
def test_it_asks_for_nothing_and_complains_of_nothing(
    browser: Chromium, page: Path, way: str
) -> None:
    browser.open(page, **WAYS[way])
    assert browser.requests() == [page.as_uri()]
    assert browser.complaints() == []


@pytest.mark.parametrize("way", WAYS)
def test_every_chart_is_seen_and_none_is_cut_off(browser: Chromium, page: Path, way: str) -> None:
    browser.open(page, **WAYS[way])
    charts = browser.ask(SHOWN_CHARTS)
    assert len(charts) == len({chart["name"] for chart in charts}) == 14
    for chart in charts:
        assert chart["width"] > 200, chart
        assert chart["height"] > 100, chart
        assert chart["marks"] > 0, chart
        assert chart["outside"] == [], chart


@pytest.mark.parametrize("way", WAYS)
def test_nothing_reaches_beyond_the_page(browser: Chromium, page: Path, way: str) -> None:
    browser.open(page, **WAYS[way])
    assert browser.ask(TOO_WIDE) == 0
    assert browser.ask(CUT_TABLES) == []


@pytest.mark.parametrize("way", WAYS)
def test_paper_is_white_and_the_night_is_dark(browser: Chromium, page: Path, way: str) -> None:
    browser.open(page, **WAYS[way])
    paper, ink = (_lightness(browser.ask(script)) for script in (BACKGROUND, INK))
    assert (paper < 0.2) is (way == "dark")
    assert abs(paper - ink) > 0.7


def test_what_binds_is_read_without_scrolling(browser: Chromium, page: Path) -> None:
    browser.open(page, 390)
    bottom = "document.querySelector('.verdict').getBoundingClientRect().bottom"
    assert browser.ask(bottom) < 900
    assert browser.ask("document.querySelector('.invalid').getBoundingClientRect().top") < 200


def test_it_prints(browser: Chromium, page: Path, tmp_path: Path) -> None:
    browser.open(page, 1280)
    browser.pdf(tmp_path / "report.pdf")
    printed = (tmp_path / "report.pdf").read_bytes()
    assert printed.startswith(b"%PDF")
    assert len(printed) > 20_000


def _lightness(colour: str) -> float:
    """0 to 1 of ``rgb(r, g, b)``."""
    parts = [float(part) for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
    return sum(parts) / 3 / 255
