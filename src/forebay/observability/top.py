"""What `forebay top` shows: a fleet's status as tables, with rates since the status before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table of text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(
    status: dict[str, Any], before: dict[str, Any] | None, elapsed_s: float
) -> Iterator[Table]:
    """The tables of a status.

    Args:
        status: what `/forebay/status` answered.
        before: the answer before it, for rates; None for the first.
        elapsed_s: seconds between the two.
    """
    rates = _Rates(before, elapsed_s)
    yield Table(
        "Classes",
        ("class", "offered/s", "admitted/s", "shed/s", "queued", "running", "predicted TTFT",
         "promised", "shed for"),
        tuple(_class_row(name, one, rates) for name, one in status["classes"].items()),
    )  # fmt: skip
    yield Table(
        "Replicas",
        ("replica", "running", "slots", "queued tokens", "KV", "prefill/s", "tokens/s", "cached",
         "TTFT p50", "p99", "predicted off by", ""),
        tuple(_replica_row(one, rates) for one in status["replicas"]),
    )  # fmt: skip
    if status["tenants"]:
        yield Table(
            "Tenants",
            ("tenant", "tokens", "share"),
            tuple(
                (name, f"{one['tokens']:,.0f}", f"{one['share']:.0%}")
                for name, one in status["tenants"].items()
            ),
        )


class _Rates:
    """Growth per second since the status before."""

    def __init__(self, before: dict[str, Any] | None, elapsed_s: float) -> None:
        self._classes = before["classes"] if before else {}
        self._replicas = {r["replica"]: r for r in before["replicas"]} if before else {}
        self._elapsed_s = elapsed_s

    def of_class(self, name: str, key: str, now: float) -> str:
        before = self._classes.get(name)
        return self._rate(None if before is None else _number(before[key]), now)

    def of_replica(self, name: str, key: str, now: float) -> str:
        before = self._replicas.get(name)
        return self._rate(None if before is None else before[key], now)

    def _rate(self, before: float | None, now: float) -> str:
        if before is None or self._elapsed_s <= 0:
            return _NOTHING
        # A replica that is gone takes its totals along; that is not a negative rate.
        return f"{max(now - before, 0.0) / self._elapsed_s:,.1f}"


def _class_row(name: str, one: dict[str, Any], rates: _Rates) -> tuple[str, ...]:
    predicted = one["predicted_ttft_s"]
    least, most = _seconds(predicted["least"]), _seconds(predicted["most"])
    reasons = sorted(one["shed"].items(), key=lambda pair: -pair[1])
    return (
        name,
        rates.of_class(name, "offered", one["offered"]),
        rates.of_class(name, "admitted", one["admitted"]),
        rates.of_class(name, "shed", _number(one["shed"])),
        f"{one['queued']}",
        f"{one['running']}",
        least if least == most else f"{least} to {most}",
        _seconds(one["budget_s"]),
        ", ".join(f"{reason} {count:.0f}" for reason, count in reasons),
    )


def _replica_row(one: dict[str, Any], rates: _Rates) -> tuple[str, ...]:
    running = sum(part["running"] for part in one["classes"].values())
    queued = sum(part["queued_tokens"] for part in one["classes"].values())
    prompts = one["prompt_tokens"]
    return (
        one["replica"],
        f"{running}",
        f"{one['slots']}",
        f"{queued:,}",
        f"{one['kv_usage']:.0%}",
        f"{one['prefill_rate']:,.0f}" if one["prefill_rate"] else _NOTHING,
        rates.of_replica(one["replica"], "output_tokens", one["output_tokens"]),
        f"{one['cached_tokens'] / prompts:.0%}" if prompts else _NOTHING,
        _seconds(one["ttft_p50_s"]),
        _seconds(one["ttft_p99_s"]),
        _NOTHING if one["prediction_error"] is None else f"{one['prediction_error']:.0%}",
        _remarks(one),
    )


def _remarks(one: dict[str, Any]) -> str:
    late = one["late_p99"]
    said = ["draining"] if one["draining"] else []
    if late is not None and late > 0.05:  # measure.lateness.MOST_LATE
        said.append(f"emulation late by {late:.0%} of a step")
    return ", ".join(said)


def _number(value: Any) -> float:
    """A count, or the sum of counts by reason."""
    return float(sum(value.values()) if isinstance(value, dict) else value)


def _seconds(value: float | None) -> str:
    if value is None:
        return _NOTHING
    return f"{1e3 * value:.0f} ms" if value < 1 else f"{value:.1f} s"
