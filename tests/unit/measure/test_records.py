from __future__ import annotations

import pytest
from record_samples import sample

from forebay.measure import OUTCOMES
from forebay.measure.records import FAILURES


def test_latencies_count_from_the_intended_send() -> None:
    late = sample(sent_s=10.15)
    assert late.ttft == pytest.approx(0.2)
    assert late.e2e == pytest.approx(1.25)
    assert late.client_lag == pytest.approx(0.15)


def test_tpot_is_the_mean_gap_after_the_first_token() -> None:
    assert sample().tpot == pytest.approx(0.1)


@pytest.mark.parametrize("changes", [{"tokens_out": 1}, {"last_token_s": None}])
def test_tpot_is_undefined_where_gaps_were_not_seen(changes: dict[str, object]) -> None:
    assert sample(**changes).tpot is None


def test_ttft_is_undefined_without_a_token() -> None:
    assert sample(first_token_s=None).ttft is None


@pytest.mark.parametrize(
    ("outcome", "status", "admitted"),
    [
        ("ok", 200, True),
        ("stream_error", 200, True),
        ("malformed", 200, True),
        ("cut", 200, True),
        ("timeout", 0, True),
        ("dropped", 0, True),
        ("cancelled", 0, True),
        ("stopped", 200, True),
        ("failed", 500, False),
        ("timeout", 500, False),
        ("shed", 429, False),
        ("shed", 0, False),
        ("refused_connection", 0, False),
        ("no_socket", 0, False),
    ],
)
def test_admitted_means_taken_up(outcome: str, status: int, admitted: bool) -> None:
    assert sample(outcome=outcome, status=status).admitted is admitted


def test_a_failure_is_what_is_neither_served_nor_refused_nor_left() -> None:
    failing = {outcome for outcome in OUTCOMES if sample(outcome=outcome).failure}
    assert failing == FAILURES == {*OUTCOMES} - {"ok", "shed", "cancelled", "stopped"}


@pytest.mark.parametrize(
    ("changes", "slo_tpot", "good"),
    [
        ({}, None, True),
        ({}, 0.11, True),
        ({}, 0.09, False),
        ({"tokens_out": 1}, 0.09, True),
        ({"first_token_s": 11.1}, None, False),
        ({"first_token_s": None}, None, False),
        ({"outcome": "cut"}, None, False),
        ({"outcome": "stream_error"}, None, False),
        ({"outcome": "cancelled"}, None, False),
    ],
)
def test_good_is_finished_within_every_slo(
    changes: dict[str, object], slo_tpot: float | None, good: bool
) -> None:
    assert sample(**changes).is_good(1.0, slo_tpot) is good
