"""The live line: a fleet's state in one row of text."""

from __future__ import annotations

from typing import Any

from forebay.observability import catalogue
from forebay.observability.alarms import alarms
from forebay.observability.metric import Metric

_Totals = dict[Any, tuple[float, float]]  # by replica: tokens, and refusals


class LiveLine:
    """Turns what replicas publish into a line, with rates since the line before."""

    def __init__(self) -> None:
        self._before: tuple[float, _Totals] | None = None

    def line(
        self, fleet: list[dict[str, Any]], now: float, decision: dict[str, Any] | None = None
    ) -> str:
        """The state of `fleet` at `now` (seconds), with the last decision on its size."""
        totals, before = _totals(fleet), self._before
        self._before = (now, totals)
        tokens_rate = shed_rate = 0.0
        if before is not None and now > before[0]:
            tokens_rate, shed_rate = _rates(totals, before[1], now - before[0])
        return (
            f"replicas {_size(len(fleet), decision)}  "
            f"running {total(fleet, catalogue.RUNNING):.0f}  "
            f"queued {total(fleet, catalogue.QUEUED):.0f}  tokens/s {tokens_rate:.0f}  "
            f"TTFT p50 {_milliseconds(fleet, 'ttft_p50')} p99 {_milliseconds(fleet, 'ttft_p99')}  "
            f"shed/s {shed_rate:.1f}"
        )


def _totals(fleet: list[dict[str, Any]]) -> _Totals:
    """Tokens and refusals by replica."""
    return {
        one.get("status", {}).get("replica", number): (
            total([one], catalogue.OUTPUT_TOKENS),
            total([one], catalogue.SHED),
        )
        for number, one in enumerate(fleet)
    }


def _rates(now: _Totals, before: _Totals, elapsed_s: float) -> tuple[float, float]:
    """Tokens/s and refusals/s of the replicas that are in both.

    One that is gone takes its totals along, and one that was not heard of for a look brings them.
    """
    both = now.keys() & before.keys()
    tokens, shed = (sum(max(now[n][i] - before[n][i], 0.0) for n in both) for i in (0, 1))
    return tokens / elapsed_s, shed / elapsed_s


def _size(ready: int, decision: dict[str, Any] | None) -> str:
    """Replicas that are there, those asked for, and what somebody should look at."""
    if decision is None:
        return str(ready)
    return ", ".join(
        [f"{ready} of {decision['target']}", *(alarm.short for alarm in alarms(decision))]
    )


def total(fleet: list[dict[str, Any]], metric: Metric) -> float:
    """A metric added up over the fleet."""
    return sum(float(replica.get(metric.name, 0.0)) for replica in fleet)


def _milliseconds(fleet: list[dict[str, Any]], key: str) -> str:
    """The worst replica's value: percentiles of replicas cannot be added up."""
    values = [replica[key] for replica in fleet if replica.get(key) is not None]
    return f"{max(values) * 1000:.0f} ms" if values else "-"
