"""The page of a scaling replay as Chromium shows it; skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import CHROMIUM, WHY_SKIPPED, Chromium
from recorded_scaling import CONFIG, LIMITS, decisions
from test_load_page_in_browser import CUT_TABLES, SHOWN_CHARTS, TOO_WIDE, WAYS

from forebay.policies.scaling import LimitConfig
from forebay.report import ScalingReport, render_scaling_page
from forebay.simulate import read_record, replay

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=WHY_SKIPPED)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("replay") / "scaling-replay.html"
    looks = replay([read_record(one) for one in decisions()], CONFIG, LimitConfig(1, 4))
    report = ScalingReport(
        service="<b>chat</b>", run="runs/launch", settings="min 1, max 4", looks=looks
    )
    path.write_text(render_scaling_page(report), "utf-8")
    return path


@pytest.mark.parametrize("way", WAYS)
def test_it_is_whole_and_asks_for_nothing(browser: Chromium, page: Path, way: str) -> None:
    browser.open(page, **WAYS[way])
    assert browser.requests() == [page.as_uri()]
    assert browser.complaints() == []
    assert browser.ask(TOO_WIDE) == 0
    assert browser.ask(CUT_TABLES) == []


@pytest.mark.parametrize("way", WAYS)
def test_both_charts_are_seen_and_none_is_cut_off(browser: Chromium, page: Path, way: str) -> None:
    browser.open(page, **WAYS[way])
    charts = browser.ask(SHOWN_CHARTS)
    found = {chart["name"]: chart["marks"] for chart in charts}
    assert found == {"Replicas over time": 4, "Missing replicas over time": 2}
    for chart in charts:
        assert chart["width"] > 200, chart
        assert chart["outside"] == [], chart


def test_a_name_is_text_and_no_markup(browser: Chromium, page: Path) -> None:
    browser.open(page, 1280)
    assert "<b>chat</b>" in browser.ask("document.querySelector('h1').textContent")
    assert browser.ask("document.querySelectorAll('h1 b').length") == 0


def test_the_lines_differ_in_their_dashes(browser: Chromium, page: Path) -> None:
    browser.open(page, 1280)
    dashes = [
        browser.ask(f"getComputedStyle(document.querySelector('path.{kind}')).strokeDasharray")
        for kind in ("then", "ready", "now")
    ]
    assert len(set(dashes)) == 3


def test_two_fleets_alike_make_a_page_too(tmp_path: Path, browser: Chromium) -> None:
    looks = replay([read_record(one) for one in decisions()[:60]], CONFIG, LIMITS)
    path = tmp_path / "page.html"
    report = ScalingReport(service="chat", run="r", settings="s", looks=looks)
    path.write_text(render_scaling_page(report), "utf-8")
    browser.open(path, 1280)
    body = browser.ask("document.body.textContent")
    assert "Neither fleet changed its size" in body
    assert "At no time did max withhold a replica" in body
