"""The report of a load test: what bound, the figures that say so, and all that was measured.

Everything is on the page at once, without scripts: it reads the same on paper, on a phone and in
ten years. Its content security policy lets it load and run nothing, whatever a server put into an
error text.
"""

from __future__ import annotations

import math
from collections import Counter
from importlib.resources import files
from string import Template

from forebay.measure import Binding
from forebay.report.fleet_chart import fleet_figure
from forebay.report.load_charts import bin_words, requests_chart, ttft_chart
from forebay.report.load_columns import Columns, columns, quantiles
from forebay.report.load_data import ClientFacts, LoadReport
from forebay.report.load_latency_charts import distribution_charts, trade_off_chart
from forebay.report.load_server_charts import client_tokens_chart, server_charts
from forebay.report.load_tables import (
    group_tables,
    latency_table,
    outcome_table,
    slowest_table,
    stage_table,
)
from forebay.report.load_time import Timeline, timeline
from forebay.report.markup import facts, text
from forebay.report.words import NONE, between, limit, portion, rate, seconds

_MOST_CLASSES = 3
_NO_SERVER = '<p class="note">The metrics of the server were not read.</p>'


def render_load_page(report: LoadReport) -> str:
    """One self-contained HTML page; it loads nothing."""
    run = columns(report.records, report.slo_ttft_s, report.slo_tpot_s)
    time = timeline(report, run)
    package = files("forebay.report")
    styles = (package.joinpath(name).read_text("utf-8") for name in ("page.css", "load.css"))
    return Template(package.joinpath("load_page.html").read_text("utf-8")).substitute(
        title=text(report.title),
        style="\n".join(styles),
        invalid=_invalid(report),
        verdict=_verdict(report.binding),
        facts=facts(_facts(report)),
        tiles=_tiles(report, run),
        latencies=latency_table(report, run),
        requests_chart=requests_chart(run, time),
        fleet=fleet_figure(report, time),
        ttft_chart=ttft_chart(report, run, time),
        bin=text(bin_words(run, time)),
        server=_server(report, time),
        distribution=_distribution(report, run),
        trade_off=_trade_off(report, run),
        stages=stage_table(report, run),
        groups=group_tables(report, run),
        outcomes=outcome_table(report, run),
        slowest=slowest_table(report),
        chat=_chat(report),
        client=facts(_client(report.client)),
        validity=_validity(report),
        slo=text(_objective(report)),
        footer=text(report.footer),
    )


def _invalid(report: LoadReport) -> str:
    if report.valid:
        return ""
    reasons = "".join(f"<li>{text(reason)}</li>" for reason in report.validity_reasons)
    return (
        '<div class="invalid" role="alert"><strong>INVALID RUN</strong> '
        f"Its figures are not the server's, and are not to be quoted.<ul>{reasons}</ul></div>"
    )


def _verdict(binding: Binding) -> str:
    """The line that the page opens with: what binds, the evidence, the setting to try."""
    evidence = f" {text('; '.join(binding.evidence))}." if binding.evidence else ""
    return (
        f"<strong>{text(binding.sentence)}</strong>{evidence} "
        f'<span class="try">Try: {text(binding.setting)}.</span>'
    )


def _facts(report: LoadReport) -> list[tuple[str, str]]:
    return [
        ("Target", report.target),
        ("Model", report.model),
        ("Workload", f"{report.workload}: {report.workload_text}"),
        ("Objective", _objective(report)),
        ("Started", report.started_at),
        ("Load lasted", f"{report.duration_s:,.1f} s"),
    ]


def _objective(report: LoadReport) -> str:
    first = f"first token within {limit(report.slo_ttft_s)}"
    if report.slo_tpot_s is None:
        return first
    return f"{first}, each later token within {limit(report.slo_tpot_s)} on average"


def _tiles(report: LoadReport, run: Columns) -> str:
    """The figures to remember, each with what it is a part of."""
    offered, admitted = len(run), int(run.admitted.sum())
    good, shed, failed = (run.count(kind) for kind in ("good", "shed", "failed"))
    lasted = report.duration_s
    (ttft_p99,) = quantiles(run.ttft, (99,))
    tiles = [
        (f"{offered:,}", f"offered, {rate(_per_s(offered, lasted))}/s"),
        (f"{admitted:,}", f"admitted, {portion(admitted, offered)}"),
        (f"{shed:,}", f"shed, {portion(shed, offered)}{_interval(report, 'shed_share')}"),
        (f"{failed:,}", f"failed, {portion(failed, offered)}{_classes(report)}"),
        (
            rate(_per_s(good, lasted)),
            f"good requests/s{_interval(report, 'goodput_per_s')}, "
            f"{portion(good, offered)} of offered",
        ),
        (seconds(ttft_p99), f"TTFT p99; the objective is {limit(report.slo_ttft_s)}"),
    ]
    return "".join(
        f'<div class="tile"><div class="figure">{text(figure)}</div><div>{text(label)}</div></div>'
        for figure, label in tiles
    )


def _per_s(count: int, lasted_s: float) -> float | None:
    return count / lasted_s if lasted_s > 0 else None


def _classes(report: LoadReport) -> str:
    """The most frequent classes of failure: ``: 12 timeout, 3 cut``."""
    counts = Counter(record.outcome for record in report.records if record.failure)
    most = ", ".join(f"{count:,} {name}" for name, count in counts.most_common(_MOST_CLASSES))
    return f": {most}{', ...' if len(counts) > _MOST_CLASSES else ''}" if most else ""


def _interval(report: LoadReport, name: str) -> str:
    low, high = report.intervals.get(name, (-math.inf, math.inf))
    as_share = name.endswith("_share")
    bounds = between(low, high, lambda value: portion(value, 1) if as_share else rate(value))
    return f" ({bounds})" if bounds else ""


def _server(report: LoadReport, time: Timeline) -> str:
    charts = [(name, chart, "the server") for name, chart in server_charts(report, time)]
    received = client_tokens_chart(report, time)
    if received:
        charts.append(("Output tokens received", received, "the client"))
    return ("" if report.server else _NO_SERVER) + "".join(
        f"<figure><figcaption><h3>{text(name)} "
        f'<span class="note">seen by {source}</span></h3></figcaption>{chart}</figure>'
        for name, chart, source in charts
    )


def _distribution(report: LoadReport, run: Columns) -> str:
    charts = distribution_charts(report, run)
    if not charts:
        return '<p class="note">No latency was measured.</p>'
    figures = "".join(
        f"<figure><figcaption><h3>{text(name)}</h3></figcaption>{chart}</figure>"
        for name, chart in charts
    )
    return f'<div class="panels">{figures}</div>'


def _trade_off(report: LoadReport, run: Columns) -> str:
    chart = trade_off_chart(report, run)
    if not chart:
        return ""
    return (
        "<section><h2>Latency against throughput</h2><figure><figcaption>"
        "<h3>Each stage, joined in order of time</h3>"
        '<p class="legend"><span class="key triangle p99">TTFT p99</span>'
        '<span class="key square p50">TTFT p50</span></p>'
        f"</figcaption>{chart}</figure></section>"
    )


def _chat(report: LoadReport) -> str:
    if report.chat is None:
        return ""
    question, answer = (text(said.strip() or NONE) for said in report.chat)
    return (
        '<section><h2>One answer</h2><div class="chat">'
        f'<p class="question">{question}</p><p class="answer">{answer}</p></div></section>'
    )


def _client(client: ClientFacts) -> list[tuple[str, str]]:
    scheduling = "real-time (SCHED_FIFO)"
    if not client.realtime:
        why = f": {client.realtime_reason}" if client.realtime_reason else ""
        scheduling = f"ordinary; real-time was not granted{why}"
    begun = f"{client.begun:,}"
    if client.planned is not None:
        begun += f" of {client.planned:,} planned"
    return [
        ("Lag p50", seconds(client.lag_p50_s)),
        ("Lag p99", seconds(client.lag_p99_s)),
        ("Lag, longest", seconds(client.lag_max_s)),
        ("Longest stall of its loop", seconds(client.stall_max_s)),
        ("CPU of the busiest worker", f"{portion(client.cpu_share, 1)} of a core"),
        ("Workers", f"{client.workers:,}"),
        ("Machine idle", "-" if client.machine_idle is None else portion(client.machine_idle, 1)),
        (
            "Taken by its host",
            "-" if (taken := client.machine_stolen) is None else portion(taken, 1),
        ),
        ("Scheduling", scheduling),
        ("Sessions begun", f"{begun}{', then interrupted' if client.interrupted else ''}"),
    ]


def _validity(report: LoadReport) -> str:
    verdict = "The run is valid" if report.valid else "The run is NOT valid"
    reasons = "; ".join(report.validity_reasons)
    return text(f"{verdict}: {reasons}." if reasons else f"{verdict}.")
