"""The figures of a run as short phrases, each with its unit and what it is measured against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import floor

from forebay.measure.evidence import Evidence
from forebay.measure.pressure import Pressure


def good(run: Evidence) -> str | None:
    """Share of the requests that could be good."""
    if not run.judged > 0:
        return None
    part = run.good / run.judged
    # What is not enough is not rounded up to what is.
    return f"{share(part if run.kept else floor(1000 * part) / 1000)} good"


def before_first(run: Evidence) -> list[str]:
    """TTFT against its SLO, and what was refused."""
    figures = []
    if run.ttft_p99 is not None:
        slo = seconds(run.slo_ttft_s)
        figures.append(f"TTFT p99 {seconds(run.ttft_p99)} for an SLO of {slo}")
    if run.shed:
        figures.append(f"{share(run.shed / run.offered)} shed")
    return figures


def tpot(run: Evidence) -> str | None:
    """TPOT against its SLO."""
    if run.tpot_p99 is None:
        return None
    slo = "" if run.slo_tpot_s is None else f" for an SLO of {seconds(run.slo_tpot_s)}"
    return f"TPOT p99 {seconds(run.tpot_p99)}{slo}"


def queue(server: Pressure) -> list[str]:
    """How often something was queued, and how much."""
    if server.queue_share is None:
        return []
    figures = [f"queue in {share(server.queue_share)} of samples"]
    sizes = ((server.queued_requests, "requests"), (server.queued_tokens, "prompt tokens"))
    known = [f"{size:,.0f} {unit}" for size, unit in sizes if size is not None]
    return [f"{figures[0]} (median then {', '.join(known)})"] if known else figures


def running(run: Evidence, server: Pressure) -> list[str]:
    """Sequences running, against their limit."""
    if server.running_p50 is None:
        return []
    limit = "" if run.max_num_seqs is None else f" of {run.max_num_seqs}"
    return [f"{server.running_p50:,.0f}{limit} running (median)"]


def figure(name: str, value: float | None, words: Callable[[float], str]) -> str | None:
    """A number in words, where there is one."""
    return None if value is None else f"{name} {words(value)}"


def told(figures: Sequence[str | None]) -> list[str]:
    """Without what is not known."""
    return [known for known in figures if known is not None]


def seconds(value: float) -> str:
    """``0.0832`` as ``83.2 ms``."""
    return f"{value * 1000:.3g} ms" if value < 0.9995 else f"{value:.3g} s"


def share(value: float) -> str:
    """``0.997`` as ``99.7 %``; nothing less than all of it is rounded up to 100 %."""
    return ">99.9 %" if 0.9995 <= value < 1 else f"{100 * value:.3g} %"


def rate(value: float) -> str:
    """Two digits below 1, one decimal below 100, thousands separated above."""
    if 0 < value < 0.95:
        return f"{value:.2g}"
    return f"{value:,.1f}" if value < 99.95 else f"{value:,.0f}"
