from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_samples import any_record, sample

from forebay.measure.records import RequestRecord
from forebay.measure.summary import summarise
from forebay.measure.windows import windows

runs = st.lists(any_record(), max_size=40)


@given(runs)
def test_every_request_is_counted_once(run: list[RequestRecord]) -> None:
    summary = summarise(run, 1.0, None, 10.0)
    finished = sum(record.outcome == "ok" for record in run)
    assert summary.offered == len(run) == finished + summary.shed + summary.failed
    assert summary.good <= finished <= summary.admitted <= summary.sent <= summary.offered


@given(runs)
def test_the_adjusted_percentile_is_no_better_than_that_of_the_finished(
    run: list[RequestRecord],
) -> None:
    finished = summarise([r for r in run if r.outcome == "ok"], 1.0, None, 10.0)
    adjusted = summarise(run, 1.0, None, 10.0).ttft_adjusted_p99
    if finished.ttft_p99 is not None:
        assert adjusted is not None
        assert adjusted >= finished.ttft_p99


@given(runs, st.floats(0.5, 7))
def test_windows_add_up_to_the_run(run: list[RequestRecord], width_s: float) -> None:
    summary, series = summarise(run, 1.0, None, 10.0), windows(run, width_s, 1.0)
    for name in ("offered", "admitted", "shed", "failed", "good"):
        assert sum(getattr(window, name) for window in series) == getattr(summary, name)
    for window in series:
        assert window.offered == window.good + window.late + window.shed + window.failed
    assert sum(w.tokens for w in series) == pytest.approx(sum(r.tokens_out for r in run))


def test_rates_are_per_second_of_the_run() -> None:
    shed = sample(outcome="shed", status=429, first_token_s=None, tokens_out=0, ended_s=10.003)
    summary = summarise([sample(), sample(), sample(first_token_s=13.0), shed], 1.0, None, 2.0)
    assert summary.offered_per_s == 2.0
    assert summary.admitted_per_s == 1.5
    assert summary.shed_per_s == 0.5
    assert summary.goodput_per_s == 1.0
    assert summary.tokens_per_s == 16.5
    assert summary.refusal_p99 == pytest.approx(0.003)


def test_a_tenth_of_failures_makes_the_adjusted_p99_infinite() -> None:
    run = [sample()] * 9 + [sample(outcome="timeout", first_token_s=None)]
    summary = summarise(run, 1.0, None, 1.0)
    assert summary.ttft_p99 == pytest.approx(0.2)
    assert summary.ttft_adjusted_p99 == math.inf
    assert json.loads(json.dumps(summary.as_dict(), allow_nan=False))["ttft_adjusted_p99"] == "inf"


@pytest.mark.parametrize(("lag_s", "valid"), [(0.001, True), (0.0199, True), (0.021, False)])
def test_a_late_client_makes_the_run_invalid(lag_s: float, valid: bool) -> None:
    summary = summarise([sample(intended_s=0.0, sent_s=lag_s)], 1.0, None, 1.0)
    assert summary.valid is valid
    assert f"{lag_s * 1000:.1f} ms" in summary.validity_reason


def test_a_run_of_nothing_is_not_valid() -> None:
    summary = summarise([], 1.0, None, 1.0)
    assert (summary.offered, summary.valid, summary.ttft_p50) == (0, False, None)


def test_tokens_fall_into_the_window_of_their_arrival() -> None:
    known = sample(tokens_out=4, token_times=[10.2, 11.2])
    assert [w.tokens for w in windows([known], 1.0, 1.0)][10:] == [2.0, 2.0]
    spread = sample(tokens_out=11)  # one each 0.1 s from 10.2 to 11.2
    assert [w.tokens for w in windows([spread], 1.0, 1.0)][10:] == [8.0, 3.0]


@pytest.mark.parametrize("width_s", [0.0, -1.0, math.nan])
def test_impossible_widths_and_durations_are_refused(width_s: float) -> None:
    with pytest.raises(ValueError, match="window"):
        windows([], width_s, 1.0)
    with pytest.raises(ValueError, match="run lasts"):
        summarise([], 1.0, None, width_s)
