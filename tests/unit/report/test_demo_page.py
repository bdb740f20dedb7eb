from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from demo_sample import demo_data

from forebay.report import ClientNotes, DemoData, Sample, render_demo_page
from forebay.report.demo_charts import server_charts
from forebay.report.demo_page import client_text, headline

VOID = {"meta", "br", "hr", "img", "link", "input"}
HOSTILE = "<script>alert('x')</script>&\"'</svg>"


class Balanced(HTMLParser):
    """Fails on a tag closed out of order, and keeps what a test may ask for."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(page: str) -> Balanced:
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


@pytest.fixture(scope="module")
def data() -> DemoData:
    return demo_data()


@pytest.fixture(scope="module")
def page(data: DemoData) -> str:
    return render_demo_page(data)


def test_is_whole_and_balanced(page: str) -> None:
    tags = [tag for tag, _ in parsed(page).tags]
    assert page.startswith("<!DOCTYPE html>")
    assert tags.count("title") > 1  # the page's own, and those of the bars
    assert tags.count("tr") == 5
    assert not re.search(r"\$\w|\bNone\b|\bnan\b", page)


def test_loads_nothing(page: str) -> None:
    assert "http" not in page
    assert not re.search(r"@import|url\((?!#)", page)
    for tag, attributes in parsed(page).tags:
        assert tag not in ("link", "img", "script", "iframe", "object")
        assert not {"src", "href", "xlink:href"} & attributes.keys()


def test_every_stage_has_its_row(page: str, data: DemoData) -> None:
    rows = re.findall(r'<th scope="row">(.*?)</th>', page)
    assert rows == ["0.5× for 20 s", "1× for 20 s", "3× for 20 s", "0.5× for 20 s"]
    peak = data.stages[2].summary
    assert f'<td data-label="Shed /s">{peak.shed_per_s:.1f}</td>' in page


def test_charts_are_named_for_those_who_hear_them(page: str) -> None:
    charts = [a for tag, a in parsed(page).tags if tag == "svg" and a.get("role") == "img"]
    names = [str(attributes["aria-label"]).split(".")[0] for attributes in charts]
    assert len(names) == 2 * len(set(names)) == 10  # each for a wide page and for a phone
    assert "Requests per second over time" in names


def test_axes_have_titles_with_units(page: str) -> None:
    for title in ("requests/s", "time to first token (log scale)", "tokens/s", "seconds since"):
        assert title in page


def test_hostile_text_stays_text() -> None:
    named = ("title", "model", "hardware", "workload", "footer")
    hostile = demo_data(
        **dict.fromkeys(named, HOSTILE),
        chat=(HOSTILE, HOSTILE),
        client=ClientNotes(None, False, HOSTILE, False, HOSTILE),
    )
    page = render_demo_page(hostile)
    assert "<script" not in page
    assert HOSTILE in "".join(parsed(page).text)


def test_a_dollar_in_the_text_is_no_placeholder() -> None:
    assert "costs $title" in render_demo_page(demo_data(model="costs $title"))


def test_headline_says_what_was_kept(data: DemoData) -> None:
    peak = data.stages[2].summary
    assert headline(data).startswith(f"Offered 3× its capacity, it served {peak.goodput_per_s:.1f}")
    assert "within the 1 s objective" in headline(data)


@pytest.mark.parametrize("ttft_p99", [1.7, None])
def test_headline_says_what_was_missed(data: DemoData, ttft_p99: float | None) -> None:
    peak = data.stages[2]
    missed = replace(peak, summary=replace(peak.summary, ttft_p99=ttft_p99))
    assert "beyond the 1 s objective" in headline(replace(data, stages=[missed]))


def test_an_invalid_run_is_said_on_top() -> None:
    client = ClientNotes(0.4, False, "not permitted", False, "client lag p99 400 ms")
    page = render_demo_page(demo_data(client=client))
    assert page.index("Run not valid") < page.index("Stages")
    assert "under ordinary scheduling (not permitted)" in client_text(client)
    assert "The run is NOT valid: client lag p99 400 ms." in client_text(client)


def test_without_server_figures_the_clients_tokens_are_drawn(data: DemoData) -> None:
    charts = server_charts(replace(data, server=()))
    assert [name for name, _ in charts] == ["Output tokens"]


def test_late_and_failed_requests_are_drawn(data: DemoData) -> None:
    first = replace(data.windows[0], late=3, failed=2)
    samples = [
        Sample(1.0, 2.5, "ok"),
        Sample(2.0, 0.05, "ok"),
        Sample(2.0, 0.1, "cut"),
        Sample(3.0, None, "shed"),
    ]
    page = render_demo_page(replace(data, windows=[first], samples=samples))
    assert all(f'class="fill {kind}"' in page for kind in ("late", "failed"))
    assert 'class="crosses late"' in page
    assert "1 requests within the SLO of 1 s, 2 late or failed, 1 shed" in page


def test_an_empty_run_still_makes_a_page() -> None:
    nothing = demo_data(stages=[], windows=[], samples=[], server=(), chat=None)
    parsed(render_demo_page(nothing))
    assert headline(nothing) == "Nothing was measured."


def test_tokens_are_of_the_stage_in_which_they_came(data: DemoData) -> None:
    peak = data.stages[2]
    queued = replace(peak, summary=replace(peak.summary, tokens_per_s=1e6))
    page = render_demo_page(replace(data, stages=[queued]))
    within = sum(w.tokens for w in data.windows if 40 <= w.start_s < 60) / 20
    assert f'<td data-label="Output tokens/s">{within:,.0f}</td>' in page
