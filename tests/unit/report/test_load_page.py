from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_sample import (
    SLO_TPOT_S,
    SLO_TTFT_S,
    failure,
    load_report,
    queue_run,
    request,
    server_series,
    shed,
)
from parsed_page import Page

from forebay.measure import Binding, summarise
from forebay.report import LoadReport, LoadStage, render_load_page
from forebay.report.load_time import stage_names, thinned
from forebay.report.words import rate, seconds
from forebay.spec.workload import fixed_workload

HOSTILE = "<script>alert('x')</script>&\"'</svg>\x00\ud800\u202e$title"


@pytest.fixture(scope="module")
def report() -> LoadReport:
    return load_report()


@pytest.fixture(scope="module")
def html(report: LoadReport) -> str:
    return render_load_page(report)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def drawn(**changes: object) -> Page:
    return Page(render_load_page(load_report(**changes)))  # type: ignore[arg-type]


def test_it_is_whole(html: str, page: Page) -> None:
    assert html.startswith("<!DOCTYPE html>")
    assert not re.search(r"\$[a-z]|\bNone\b|\bnan\b", html)
    assert [tag for tag, _ in page.tags].count("h1") == 1


def test_a_question_and_its_answer_are_shown_as_text(html: str) -> None:
    assert 'class="chat"' not in html
    shown = render_load_page(load_report(chat=("What is it?", HOSTILE)))
    assert '<p class="question">What is it?</p>' in shown
    assert "<script>" not in shown
    assert '<p class="answer">–</p>' in render_load_page(load_report(chat=("q", " ")))


def test_it_loads_nothing_and_may_not(html: str, page: Page) -> None:
    assert not re.search(r"@import|url\((?!#)", html)
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "script", "iframe", "object")
        assert not {"src", "href", "xlink:href", "onload"} & attributes.keys()
    assert "default-src 'none'" in html


def test_it_opens_with_what_binds_the_evidence_and_the_setting() -> None:
    verdict = Binding("kv", "KV blocks bind.", ["KV usage p95 97 %"], "more blocks")
    page = drawn(binding=verdict)
    assert page.text.index(verdict.line) < page.text.rindex("Chat at twice its capacity")
    assert page.text.index(verdict.line) < 120


def test_an_invalid_run_says_so_first() -> None:
    reasons = ["the client was late: lag p99 31 ms", "the client stood still"]
    page = drawn(valid=False, validity_reasons=reasons)
    banner = page.text.index("INVALID RUN")
    assert banner < page.text.index("Try:")
    assert all(banner < page.text.index(reason) for reason in reasons)
    assert ("div", {"class": "invalid", "role": "alert"}) in page.tags
    assert "The run is NOT valid" in page.text


def test_a_valid_run_has_no_banner(page: Page) -> None:
    assert "INVALID" not in page.text
    assert "The run is valid: client lag p99 1.6 ms" in page.text


def test_the_headline_figures_are_those_of_the_summary(report: LoadReport, page: Page) -> None:
    summary = summarise(report.records, SLO_TTFT_S, SLO_TPOT_S, report.duration_s)
    assert f"{summary.offered:,}offered, {summary.offered_per_s:.1f}/s" in page.text
    for count, word in ((summary.admitted, "admitted"), (summary.shed, "shed")):
        share = 100 * count / summary.offered
        assert f"{count:,}{word}, {share:.3g} %" in page.text
    assert f"{summary.failed:,}failed" in page.text
    assert f"{summary.goodput_per_s:.1f}good requests/s" in page.text


def test_the_latencies_are_those_of_the_summary(report: LoadReport, page: Page) -> None:
    summary = summarise(report.records, SLO_TTFT_S, SLO_TPOT_S, report.duration_s)
    table = page.table("Latency")
    for name in ("TTFT", "TPOT", "E2E"):
        row = table.row(name)
        for q in ("p50", "p95", "p99"):
            assert row[q] == seconds(getattr(summary, f"{name.lower()}_{q}"))
    assert table.row("TTFT")["adjusted p99"] == seconds(summary.ttft_adjusted_p99)
    assert table.row("ITL")["p50"] == "–"  # no token times were kept


def test_token_gaps_are_summed_up_where_they_were_kept() -> None:
    gaps = [0.1] * 90 + [0.2] * 8 + [0.9] * 2
    times = [1.2]
    for gap in gaps:
        times.append(times[-1] + gap)
    row = drawn(run=[request(token_times=times, tokens_out=101)]).table("Latency").row("ITL")
    assert [row[q] for q in ("p50", "p95", "p99")] == ["100 ms", "200 ms", "900 ms"]
    assert row["values"] == "100"


def test_intervals_stand_beside_their_figures() -> None:
    intervals = {
        "ttft_p99": (0.9, 1.3),
        "ttft_adjusted_p99": (1.0, math.inf),
        "tpot_p50": (-math.inf, math.inf),
        "goodput_per_s": (30.0, 34.0),
    }
    page = drawn(intervals=intervals)
    table = page.table("Latency")
    assert table.row("TTFT")["p99"].endswith("900 ms to 1.30 s")
    assert table.row("TTFT")["adjusted p99"].endswith("at least 1.00 s")
    assert "good requests/s (30.0 to 34.0)" in page.text
    assert not re.search(r"\binf\b", page.text)


def test_outcomes_add_up_to_what_was_offered(report: LoadReport, page: Page) -> None:
    table = page.table("Outcomes")
    counts = [int(count.replace(",", "")) for count in table.column("Requests")]
    assert table.rows[-1][0] == "offered"
    assert sum(counts[:-1]) == counts[-1] == len(report.records)
    assert "predicted TTFT beyond 1 s" in table.row("shed")["Most frequent reasons"]


def test_every_stage_has_its_row(report: LoadReport, page: Page) -> None:
    table = page.table("By stage")
    for stage in report.stages:
        part = [r for r in report.records if stage.start_s <= r.intended_s < stage.end_s]
        summary = summarise(part, SLO_TTFT_S, SLO_TPOT_S, stage.end_s - stage.start_s)
        row = table.row(f"{stage.label} · {stage.rate:g}/s")
        assert row["Offered /s"] == rate(summary.offered_per_s)
        assert row["Good /s"] == rate(summary.goodput_per_s)
        assert row["Shed /s"] == rate(summary.shed_per_s)
        assert row["TTFT p99"] == seconds(summary.ttft_p99)
        assert row["E2E p99"] == seconds(summary.e2e_p99)


def test_a_stage_that_is_called_by_its_rate_says_it_once() -> None:
    spec = fixed_workload("w", 9, 2, stages=[(5.0, 60.0)])
    (stage,) = spec.report_stages(60.0)
    assert stage_names(LoadStage(stage.label, 0.0, 60.0, stage.rate)) == ["5/s"]
    assert stage_names(LoadStage("noon", 0.0, 60.0, 5.0)) == ["noon · 5/s", "5/s", "noon"]


def test_only_what_differs_is_broken_down(report: LoadReport, page: Page) -> None:
    captions = [table.caption for table in page.tables]
    assert "By kind" in captions
    assert "By tenant" in captions
    assert "By class" not in captions  # all were of one class
    table = page.table("By kind")
    assert sum(int(n.replace(",", "")) for n in table.column("Offered")) == len(report.records)


def test_many_tenants_become_twenty_and_the_rest() -> None:
    run = [request(n, n / 50, tenant=f"tenant {n % 30}") for n in range(300)]
    run += [request(n, 7.0, tenant="tenant 29") for n in range(300, 305)]
    table = drawn(run=run).table("By tenant")
    assert len(table.rows) == 1 + 20 + 1
    assert table.rows[1][:2] == ["tenant 29", "15"]
    assert table.rows[-1][:2] == ["10 others", "100"]


def test_the_slowest_are_listed_the_slowest_first(report: LoadReport, page: Page) -> None:
    table = page.table("The 20 slowest")
    slowest = sorted(report.records, key=lambda record: -record.e2e)[:20]
    assert table.column("E2E") == [seconds(record.e2e) for record in slowest]
    assert table.column("Request")[0] == f"#{slowest[0].index}"
    assert table.heads[-2:] == ["Reason", "Attempts"]


def test_every_chart_is_drawn_for_wide_and_narrow_pages_and_named(html: str, page: Page) -> None:
    assert set(page.charts) == {
        "Requests per second over time", "Time to first token over time", "Distribution of TTFT",
        "Distribution of TPOT", "Distribution of E2E", "Time to first token against throughput",
        "Requests queued over time", "Prompt tokens queued over time", "Requests running over time",
        "KV blocks in use over time", "Prompt tokens taken in over time",
        "Output tokens generated over time", "Shed over time",
        "Output tokens received over time",
    }  # fmt: skip
    assert html.count('class="chart wide"') == html.count('class="chart narrow"') == 11
    assert html.count('class="chart panel"') == 3


def test_charts_say_what_they_show(report: LoadReport, page: Page) -> None:
    run = report.records
    assert f"of {len(run):,} offered" in page.charts["Requests per second over time"]
    refused = sum(record.outcome == "shed" for record in run)
    assert f"{refused:,} shed" in page.charts["Time to first token over time"]
    tradeoff = page.charts["Time to first token against throughput"]
    assert tradeoff.startswith("4 stages.")
    assert tradeoff.count("/s offered") == 4


def test_every_category_is_told_apart_by_shape() -> None:
    run = [
        request(0, 1.0),
        request(1, 2.0, first_token_s=5.0),
        request(2, 3.0, outcome="cut"),
        request(3, 4.0, outcome="cancelled"),
        shed(4, 5.0),
    ]
    html = render_load_page(load_report(run=run))
    kinds = ("good", "late", "left", "failed", "shed")
    assert all(f'<path class="fill {kind}"' in html for kind in kinds)
    for shape in ("dots good", "crosses late", "solid left", "solid failed", "rug shed"):
        assert f'class="{shape}"' in html


def test_tables_have_heads_for_those_who_hear_them(page: Page) -> None:
    heads = [attributes for tag, attributes in page.tags if tag == "th"]
    assert heads
    assert all(attributes.get("scope") in ("col", "row") for attributes in heads)
    assert all(table.caption for table in page.tables)


@pytest.mark.parametrize(
    "run",
    [
        [],
        [request()],
        [shed(0, 1.0)],
        [failure(n, n / 10) for n in range(100)],
        [request(outcome="ok", first_token_s=None, last_token_s=None, tokens_out=0)],
        [request(at=0.0, first_token_s=0.0, last_token_s=0.0, ended_s=0.0)],
        [request(outcome="cancelled"), request(1, outcome="stopped")],
    ],
    ids=["empty", "one", "one shed", "failures", "no token", "no time", "left"],
)
def test_poor_runs_still_make_a_page(run: list[object]) -> None:
    html = render_load_page(load_report(run=run, stages=[], windows=[]))  # type: ignore[arg-type]
    page = Page(html)
    assert not re.search(r"\bnan\b|\bNone\b", html)
    assert page.table("Outcomes").row("offered")["Requests"] == str(len(run))
    assert "The metrics of the server were not read." in page.text
    assert "Requests per second over time" in page.charts


def test_failures_alone_have_no_latency_but_an_infinite_one() -> None:
    page = drawn(run=[failure(n, n / 10) for n in range(100)])
    row = page.table("Latency").row("TTFT")
    assert (row["p99"], row["adjusted p99"]) == ("–", "∞")
    assert "No latency was measured." in page.text
    assert "100failed, 100 %: 100 timeout" in page.text


def test_percentiles_lie_on_the_curve_of_their_distribution(html: str) -> None:
    panel = html[html.index('class="chart panel"') :]
    curve = re.search(r'class="line survival" d="M([^"]*)"', panel)
    assert curve is not None
    corners = [tuple(map(float, pair.split())) for pair in curve[1].replace("h0", "").split("L")]
    marks = re.findall(r'class="solid at" d="M([\d.]+) ([\d.]+)h', panel)[:3]
    for left, top in marks:
        x, y = float(left) + 2.8, float(top) + 2.8
        spans = pairwise(corners)
        assert any(
            min(x1, x2) - 1 <= x <= max(x1, x2) + 1 and min(y1, y2) - 1 <= y <= max(y1, y2) + 1
            for (x1, y1), (x2, y2) in spans
        )


def test_one_stage_has_no_trade_off() -> None:
    report = load_report()
    page = Page(render_load_page(replace(report, stages=report.stages[:1])))
    assert "Time to first token against throughput" not in page.charts


def test_the_limit_of_running_sequences_is_drawn_where_it_is_known() -> None:
    assert "max_num_seqs 64" in drawn(max_num_seqs=64).text


def test_hostile_text_stays_text() -> None:
    run = [
        failure(n, 1.0 + n, reason=HOSTILE, kind=f"{HOSTILE}{n}", class_name=f"{HOSTILE}{n}",
                tenant=f"{HOSTILE}{n}")
        for n in range(3)
    ]  # fmt: skip
    report = load_report(run=run)
    hostile = replace(
        report, valid=False, validity_reasons=[HOSTILE], footer=HOSTILE, title=HOSTILE,
        target=HOSTILE, model=HOSTILE, workload=HOSTILE, workload_text=HOSTILE,
        started_at=HOSTILE, binding=Binding("kv", HOSTILE, [HOSTILE], HOSTILE),
        client=replace(report.client, realtime=False, realtime_reason=HOSTILE),
        stages=[replace(stage, label=HOSTILE) for stage in report.stages],
    )  # fmt: skip
    html = render_load_page(hostile)
    page = Page(html)
    assert "script" not in [tag for tag, _ in page.tags]
    assert page.text.count("<script>alert('x')</script>&\"'</svg>\ufffd\ufffd\ufffd$title") > 15
    html.encode("utf-8")  # half a surrogate pair could not be written


def test_a_long_reason_is_cut() -> None:
    page = drawn(run=[failure(0, 1.0, reason="x" * 100_000)])
    assert max(len(word) for word in page.text.split()) < 200


def test_a_page_of_many_requests_stays_a_page() -> None:
    run = queue_run(scale=8.0)
    report = load_report(run=run, server=server_series(run))
    assert len(run) > 20_000
    assert len(render_load_page(report)) < 1_500_000


@given(st.integers(0, 4999), st.integers(0, 4999))
def test_thinning_keeps_peaks_and_dips_in_order(peak: int, dip: int) -> None:
    points = [(n / 50, 5.0) for n in range(5000)]
    points[dip], points[peak] = (dip / 50, 1.0), (peak / 50, 9.0)
    kept = thinned(points, 100.0)
    assert {points[peak], points[dip]} <= set(kept) <= set(points)
    assert kept == sorted(kept)
    assert len(kept) <= 480


def test_thinning_keeps_the_slowest_request() -> None:
    run = queue_run(scale=8.0)
    victim = next(n for n, record in enumerate(run) if record.outcome == "ok")
    at = run[victim].intended_s
    run[victim] = replace(run[victim], first_token_s=at + 500.0, last_token_s=at + 501.0,
                          ended_s=at + 501.0)  # fmt: skip
    html = render_load_page(load_report(run=run))
    assert "100 s" in html  # the axis reaches up to it
    crosses = re.findall(r'class="crosses late" d="([^"]*)"', html)[0]
    heights = [float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)l", crosses)]
    assert len(heights) < 300
    assert min(heights) < 70  # of 300 pixels, near the top
