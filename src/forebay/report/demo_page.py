"""The demo's page: what happened when the platform was loaded past its capacity."""

from __future__ import annotations

import html
from importlib.resources import files
from string import Template

from forebay.report.demo_charts import requests_chart, server_charts, ttft_chart
from forebay.report.demo_data import ClientNotes, DemoData, DemoStage
from forebay.report.words import NONE, factor, limit, rate, seconds, share

_COLUMNS = (
    "Stage",
    "Offered /s",
    "Admitted /s",
    "Shed /s",
    "Good /s",
    "TTFT p50",
    "TTFT p99",
    "TPOT p50",
    "Output tokens/s",
)


def render_demo_page(data: DemoData) -> str:
    """One self-contained HTML page; it loads nothing."""
    package = files("forebay.report")
    template = Template(package.joinpath("demo_page.html").read_text("utf-8"))
    return template.substitute(
        title=html.escape(data.title),
        style=package.joinpath("demo_page.css").read_text("utf-8"),
        headline=html.escape(headline(data)),
        facts=_facts(data),
        warning=_warning(data.client),
        tiles=_tiles(data),
        table=_table(data),
        requests_chart=requests_chart(data),
        ttft_chart=ttft_chart(data),
        server=_server(data),
        chat=_chat(data),
        client=html.escape(client_text(data.client)),
        slo=html.escape(limit(data.slo_ttft_s)),
        footer=html.escape(data.footer),
    )


def headline(data: DemoData) -> str:
    """What the run showed, in one or two sentences; what it missed is said as plainly."""
    peak = data.peak
    if peak is None:
        return "Nothing was measured."
    summary, slo = peak.summary, limit(data.slo_ttft_s)
    kept = summary.ttft_p99 is not None and summary.ttft_p99 <= data.slo_ttft_s
    verdict = "within" if kept else "beyond"
    return (
        f"Offered {factor(peak.factor)} its capacity, it served {rate(summary.goodput_per_s)} good "
        f"requests/s ({share(summary.goodput_per_s, data.capacity_rps)} of capacity) and shed "
        f"{rate(summary.shed_per_s)}/s. TTFT p99 of what it admitted: {seconds(summary.ttft_p99)}, "
        f"{verdict} the {slo} objective."
    )


def client_text(client: ClientNotes) -> str:
    """The client's lag, its scheduling and the verdict on the run."""
    scheduling = "under SCHED_FIFO (real-time scheduling)"
    if not client.realtime:
        why = f" ({client.realtime_reason})" if client.realtime_reason else ""
        scheduling = f"under ordinary scheduling{why}"
    verdict = "The run is valid" if client.valid else "The run is NOT valid"
    reason = f": {client.validity_reason}" if client.validity_reason else ""
    lag = seconds(client.lag_p99_s)
    return f"The client ran {scheduling}; its own lag was {lag} at p99. {verdict}{reason}."


def _facts(data: DemoData) -> str:
    pairs = (
        ("Model", data.model),
        ("Hardware", data.hardware),
        ("Request", data.workload),
        ("Objective", f"first token within {limit(data.slo_ttft_s)}"),
        ("Capacity", f"{rate(data.capacity_rps)} requests/s, measured"),
    )
    return "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
        for name, value in pairs
    )


def _warning(client: ClientNotes) -> str:
    if client.valid:
        return ""
    reason = html.escape(client.validity_reason)
    return f'<p class="warning" role="alert"><strong>Run not valid.</strong> {reason}</p>'


def _tiles(data: DemoData) -> str:
    """The four figures to remember, of the heaviest stage and the one after it."""
    peak = data.peak
    if peak is None:
        return ""
    summary, at = peak.summary, f"at {factor(peak.factor)}"
    after = next((s for s in data.stages if s.start_s >= peak.end_s), None)
    tiles = [
        (f"good requests/s {at}", rate(summary.goodput_per_s)),
        (f"TTFT p99, admitted, {at}", seconds(summary.ttft_p99)),
        (f"time to a refusal, p99, {at}", seconds(summary.refusal_p99)),
    ]
    if after is not None:
        label = f"TTFT p99 afterwards, at {factor(after.factor)}"
        tiles.append((label, seconds(after.summary.ttft_p99)))
    return "".join(
        f'<div class="tile"><div class="figure">{html.escape(value)}</div>'
        f"<div>{html.escape(label)}</div></div>"
        for label, value in tiles
    )


def _table(data: DemoData) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in _COLUMNS)
    rows = "".join(_row(stage, _tokens_per_s(data, stage)) for stage in data.stages)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _tokens_per_s(data: DemoData, stage: DemoStage) -> float:
    """Output tokens/s that arrived during the stage.

    Those of the requests offered in it come later with a long queue: a rate of theirs is one that
    the server never reached.
    """
    within = [w.tokens for w in data.windows if stage.start_s <= w.start_s < stage.end_s]
    return sum(within) / (stage.end_s - stage.start_s)


def _row(stage: DemoStage, tokens_per_s: float) -> str:
    summary = stage.summary
    cells = (
        rate(summary.offered_per_s),
        rate(summary.admitted_per_s),
        rate(summary.shed_per_s),
        rate(summary.goodput_per_s),
        seconds(summary.ttft_p50),
        seconds(summary.ttft_p99),
        seconds(summary.tpot_p50),
        rate(tokens_per_s),
    )
    name = f"{factor(stage.factor)} for {stage.end_s - stage.start_s:.0f} s"
    columns = "".join(
        f'<td data-label="{html.escape(label)}">{html.escape(value)}</td>'
        for label, value in zip(_COLUMNS[1:], cells, strict=True)
    )
    return f'<tr><th scope="row">{html.escape(name)}</th>{columns}</tr>'


def _server(data: DemoData) -> str:
    source = "the server" if data.server else "the client"
    return "".join(
        f"<figure><figcaption><h3>{html.escape(name)} "
        f'<span class="note">seen by {source}</span></h3></figcaption>{chart}</figure>'
        for name, chart in server_charts(data)
    )


def _chat(data: DemoData) -> str:
    if data.chat is None:
        return ""
    question, answer = (html.escape(text.strip() or NONE) for text in data.chat)
    return (
        '<section><h2>One answer</h2><div class="chat">'
        f'<p class="question">{question}</p><p class="answer">{answer}</p></div></section>'
    )
