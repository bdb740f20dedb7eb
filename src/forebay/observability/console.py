"""What `forebay top` shows: a fleet's status as tables, with rates since the status before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from forebay.measure import MOST_LATE
from forebay.observability.alarms import Alarm, alarms

_NOTHING = "-"
_DECISIONS = 5  # of scaling, the latest last


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table of text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(status: dict[str, Any], before: dict[str, Any] | None) -> Iterator[Table]:
    """The tables of a status.

    Args:
        status: what `/forebay/status` answered.
        before: the answer before it, for rates; None for the first.
    """
    rates = _Rates(status, before)
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
    if status["scaling"]:
        yield Table(
            "Scaling",
            ("target", "ready", "before", "wanted", "cold start", "a replica sustains", "why"),
            tuple(_scaling_row(one) for one in status["scaling"][-_DECISIONS:]),
        )
    phases = _phases(status["replicas"])
    if phases:
        yield Table(
            "Starts",
            ("replica", *(phase.replace("_", " ") for phase in phases)),
            tuple(_start_row(one, phases) for one in status["replicas"]),
        )
    if status["tenants"]:
        yield Table(
            "Tenants",
            ("tenant", "tokens", "share"),
            tuple(
                (name, f"{one['tokens']:,.0f}", f"{one['share']:.0%}")
                for name, one in status["tenants"].items()
            ),
        )


def headline(status: dict[str, Any]) -> str:
    """The fleet in a line, and what somebody should look at."""
    count = len(status["replicas"])
    text = f"{status['service']}: {count} {'replica' if count == 1 else 'replicas'}"
    return "; ".join([text, *(f"{alarm.short}: {alarm.why}" for alarm in _alarms(status))])


def is_loud(status: dict[str, Any]) -> bool:
    """Whether the headline says something to look at."""
    return bool(_alarms(status))


def _alarms(status: dict[str, Any]) -> list[Alarm]:
    return alarms(status["scaling"][-1] if status["scaling"] else None)


def _scaling_row(record: dict[str, Any]) -> tuple[str, ...]:
    wanted, cold = record["wanted"], record["cold_start"]
    return (
        f"{record['target']}",
        f"{record['ready']}",
        f"{record['before']}",
        _NOTHING if wanted is None else f"{wanted['in_full']}",
        f"{cold['mean_s']:.0f} +- {cold['deviation_s']:.0f} s",
        _sustains(record["seen"]),
        record["reason"],
    )


def _sustains(seen: dict[str, Any] | None) -> str:
    """Tokens/s of prompts or of answers, and where that comes from."""
    if seen is None:
        return _NOTHING
    one = seen["capacity"]
    return f"{one['prefill']:,.0f} in or {one['decode']:,.0f} out/s, {one['source']}"


def _phases(replicas: list[dict[str, Any]]) -> list[str]:
    """Those that any replica tells, in the order in which they follow each other.

    Each tells its own in that order: what one of them lacks goes where another has it.
    """
    found: list[str] = []
    for one in replicas:
        place = 0
        for phase in one["start_s"]:
            if phase not in found:
                found.insert(place, phase)
            place = found.index(phase) + 1
    return found


def _start_row(one: dict[str, Any], phases: list[str]) -> tuple[str, ...]:
    told = one["start_s"]
    return one["replica"], *(_seconds(told.get(phase)) for phase in phases)


class _Rates:
    """Growth per second since the status before, by the replicas' own clocks.

    Only replicas that are in both count: one that has gone takes its totals along, and one that has
    come brings those of a longer time.
    """

    def __init__(self, status: dict[str, Any], before: dict[str, Any] | None) -> None:
        earlier = {one["replica"]: one for one in before["replicas"]} if before else {}
        self._pairs = {
            one["replica"]: (one, earlier[one["replica"]])
            for one in status["replicas"]
            if one["replica"] in earlier and one["at_s"] > earlier[one["replica"]]["at_s"]
        }

    def of_class(self, name: str, key: str) -> str:
        """Of a count of one class, over all replicas."""
        return _rate(
            [
                _growth(now, before, now["classes"][name][key], before["classes"][name][key])
                for now, before in self._pairs.values()
                if name in now["classes"] and name in before["classes"]
            ]
        )

    def of_replica(self, name: str, key: str) -> str:
        """Of a count of one replica."""
        pair = self._pairs.get(name)
        return _rate([] if pair is None else [_growth(*pair, pair[0][key], pair[1][key])])


def _growth(now: dict[str, Any], before: dict[str, Any], count: Any, earlier: Any) -> float:
    """Per second; a replica that has begun anew under its name has no negative rate."""
    seconds: float = now["at_s"] - before["at_s"]
    return max(_number(count) - _number(earlier), 0.0) / seconds


def _rate(growths: list[float]) -> str:
    return f"{sum(growths):,.1f}" if growths else _NOTHING


def _class_row(name: str, one: dict[str, Any], rates: _Rates) -> tuple[str, ...]:
    predicted = one["predicted_ttft_s"]
    least, most = _seconds(predicted["least"]), _seconds(predicted["most"])
    reasons = sorted(one["shed"].items(), key=lambda pair: -pair[1])
    return (
        name,
        rates.of_class(name, "offered"),
        rates.of_class(name, "admitted"),
        rates.of_class(name, "shed"),
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
        rates.of_replica(one["replica"], "output_tokens"),
        f"{one['cached_tokens'] / prompts:.0%}" if prompts else _NOTHING,
        _seconds(one["ttft_p50_s"]),
        _seconds(one["ttft_p99_s"]),
        _NOTHING if one["prediction_error"] is None else f"{one['prediction_error']:.0%}",
        _remarks(one),
    )


def _remarks(one: dict[str, Any]) -> str:
    late = one["late_p99"]
    said = ["draining"] if one["draining"] else []
    if one["apart"]:
        said.append("the fleet's ledger does not answer")
    if late is not None and late > MOST_LATE:
        said.append(f"emulation late by {late:.0%} of a step")
    return ", ".join(said)


def _number(value: Any) -> float:
    """A count, or the sum of counts by reason."""
    return float(sum(value.values()) if isinstance(value, dict) else value)


def _seconds(value: float | None) -> str:
    if value is None:
        return _NOTHING
    return f"{1e3 * value:.0f} ms" if value < 1 else f"{value:.1f} s"
