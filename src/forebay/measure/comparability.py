"""What stands against comparing two sets of runs, read from their summaries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Summary = Mapping[str, Any]


def invalid_runs(summaries: Mapping[str, Summary]) -> list[str]:
    """A line for each run that may not be believed; the mapping goes from a run's name."""
    return [
        f"{name} is INVALID: {'; '.join(summary.get('validity_reasons') or ['no reason given'])}"
        for name, summary in summaries.items()
        if not summary["valid"]
    ]


def mismatches(a: Sequence[Summary], b: Sequence[Summary]) -> list[str]:
    """A line for each way in which the runs were not asked the same."""
    found = []
    workloads = [{_workload(one) for one in side} for side in (a, b)]
    if len(workloads[0] | workloads[1]) > 1:
        found.append(f"workloads differ: A {_list(workloads[0])}; B {_list(workloads[1])}")
    slos = [{_slo(one) for one in side} for side in (a, b)]
    if len(slos[0] | slos[1]) > 1:
        found.append(
            f"SLOs differ: A {_list(slos[0])}; B {_list(slos[1])}; goodput is judged by A's first"
        )
    return found


def _workload(summary: Summary) -> str:
    return f"{summary['workload']} ({str(summary['fingerprint'])[:12]})"


def _slo(summary: Summary) -> str:
    slo = summary["slo"]
    tpot = "" if slo.get("tpot_s") is None else f", TPOT {slo['tpot_s']:g} s"
    return f"TTFT {slo['ttft_s']:g} s{tpot}"


def _list(texts: Iterable[str]) -> str:
    return " and ".join(sorted(texts))
