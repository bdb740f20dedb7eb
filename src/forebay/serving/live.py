"""The live line: a fleet's state in one row of text."""

from __future__ import annotations

from typing import Any

from forebay.observability import catalogue
from forebay.observability.alarms import alarms


class LiveLine:
    """Turns what replicas publish into a line, with rates since the line before."""

    def __init__(self) -> None:
        self._before: tuple[float, float, float] | None = None

    def line(
        self, fleet: list[dict[str, Any]], now: float, decision: dict[str, Any] | None = None
    ) -> str:
        """The state of `fleet` at `now` (seconds), with the last decision on its size."""
        tokens, shed = total(fleet, catalogue.OUTPUT_TOKENS), total(fleet, catalogue.SHED)
        tokens_rate = shed_rate = 0.0
        if self._before is not None and now > self._before[0]:
            elapsed = now - self._before[0]
            # A replica that is gone takes its totals along; that is not a negative rate.
            tokens_rate = max(tokens - self._before[1], 0.0) / elapsed
            shed_rate = max(shed - self._before[2], 0.0) / elapsed
        self._before = (now, tokens, shed)
        return (
            f"replicas {_size(len(fleet), decision)}  "
            f"running {total(fleet, catalogue.RUNNING):.0f}  "
            f"queued {total(fleet, catalogue.QUEUED):.0f}  tokens/s {tokens_rate:.0f}  "
            f"TTFT p50 {_milliseconds(fleet, 'ttft_p50')} p99 {_milliseconds(fleet, 'ttft_p99')}  "
            f"shed/s {shed_rate:.1f}"
        )


def _size(ready: int, decision: dict[str, Any] | None) -> str:
    """Replicas that are there, those asked for, and what somebody should look at."""
    if decision is None:
        return str(ready)
    return ", ".join(
        [f"{ready} of {decision['target']}", *(alarm.short for alarm in alarms(decision))]
    )


def total(fleet: list[dict[str, Any]], metric: catalogue.Metric) -> float:
    """A metric added up over the fleet."""
    return sum(float(replica.get(metric.name, 0.0)) for replica in fleet)


def _milliseconds(fleet: list[dict[str, Any]], key: str) -> str:
    """The worst replica's value: percentiles of replicas cannot be added up."""
    values = [replica[key] for replica in fleet if replica.get(key) is not None]
    return f"{max(values) * 1000:.0f} ms" if values else "-"
