"""The live line of `forebay serve`."""

from __future__ import annotations

from typing import Any

import pytest

from forebay.observability import catalogue
from forebay.serving.control import LiveLine

REPLICA = {catalogue.RUNNING.name: 3, catalogue.OUTPUT_TOKENS.name: 100.0, "ttft_p50": 0.2}


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (None, "replicas 2  "),
        ({"target": 4, "allowed": {"missing": 0}}, "replicas 2 of 4  "),
        ({"target": 4, "allowed": {"missing": 3}}, "replicas 2 of 4, 3 MISSING  "),
        (
            {"target": 4, "ready": 2, "overdue": 2, "allowed": {"missing": 0, "limits": ["blind"]}},
            "replicas 2 of 4, 2 OVERDUE, BLIND  ",
        ),
    ],
)
def test_the_size_is_told_with_what_was_asked_for_and_what_is_missing(
    decision: dict[str, Any] | None, said: str
) -> None:
    line = LiveLine().line([REPLICA, REPLICA], 1.0, decision)
    assert line.startswith(said)
    assert "running 6" in line
    assert "p50 200 ms" in line


def test_rates_are_those_since_the_line_before_and_never_negative() -> None:
    live = LiveLine()
    live.line([REPLICA, REPLICA], 1.0)
    more = {**REPLICA, catalogue.OUTPUT_TOKENS.name: 400.0}
    assert "tokens/s 150" in live.line([more, REPLICA], 3.0)
    assert "tokens/s 0" in live.line([REPLICA], 4.0)


def test_a_replica_that_leaves_or_is_not_heard_of_for_a_look_distorts_no_rate() -> None:
    def named(name: str, tokens: float) -> dict[str, Any]:
        return {**REPLICA, catalogue.OUTPUT_TOKENS.name: tokens, "status": {"replica": name}}

    live = LiveLine()
    live.line([named("a", 1e5), named("b", 1e5)], 1.0)
    assert "tokens/s 1000" in live.line([named("a", 1e5 + 1_000)], 2.0)
    assert "tokens/s 500" in live.line([named("b", 2e5), named("a", 1e5 + 1_500)], 3.0)
