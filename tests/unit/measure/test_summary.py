from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_samples import any_record, sample

from forebay.measure import RequestRecord, summarise
from forebay.measure.windows import windows

runs = st.lists(any_record(), max_size=40)


@given(runs)
def test_every_request_is_counted_once(run: list[RequestRecord]) -> None:
    summary = summarise(run, 1.0, None, 10.0)
    finished = sum(record.outcome == "ok" for record in run)
    given_up = summary.cancelled + summary.stopped
    assert summary.offered == len(run) == finished + summary.shed + summary.failed + given_up
    assert summary.good <= finished <= summary.admitted <= summary.offered
    assert sum(summary.outcomes.values()) == summary.offered
    assert all(summary.outcomes.values())  # only what came up is listed
    assert summary.offered + summary.retried == sum(record.attempts for record in run)


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
        finished = window.good + window.late
        assert window.offered == finished + window.shed + window.failed + window.left
        assert window.left >= 0
    assert sum(window.left for window in series) == summary.cancelled + summary.stopped
    assert sum(window.tokens for window in series) == pytest.approx(summary.output_tokens)


def test_rates_are_per_second_of_the_run() -> None:
    shed = sample(outcome="shed", status=429, first_token_s=None, tokens_out=0, ended_s=10.003)
    summary = summarise([sample(), sample(), sample(first_token_s=13.0), shed], 1.0, None, 2.0)
    assert summary.offered_per_s == 2.0
    assert summary.admitted_per_s == 1.5
    assert summary.shed_per_s == 0.5
    assert summary.goodput_per_s == 1.0
    assert summary.refusal_p99 == pytest.approx(0.003)


def test_tokens_that_came_after_the_last_send_are_of_no_rate_in_the_run() -> None:
    late = sample(first_token_s=11.0, last_token_s=13.0, ended_s=13.0)  # one each 0.2 s
    summary = summarise([sample(), late], 1.0, None, 12.0)
    assert summary.output_tokens == 22
    assert summary.tokens_per_s == pytest.approx((11 + 5) / 12)


def test_of_a_closed_loops_tail_only_the_tokens_that_had_come_are_told() -> None:
    late = sample(first_token_s=11.0, last_token_s=13.0, ended_s=13.0)
    alone, with_tail = (
        summarise([sample()], 1.0, None, 12.0),
        summarise([sample()], 1.0, None, 12.0, [late]),
    )
    assert with_tail.tokens_per_s == pytest.approx((11 + 5) / 12)
    told = {**with_tail.as_dict(), "tokens_per_s": None}
    assert told == {**alone.as_dict(), "tokens_per_s": None}
    assert sum(w.tokens for w in windows([sample()], 1.0, 1.0, tail=[late])) == pytest.approx(22)


def test_a_tenth_of_failures_makes_the_adjusted_p99_infinite() -> None:
    run = [sample()] * 9 + [sample(outcome="timeout", first_token_s=None)]
    summary = summarise(run, 1.0, None, 1.0)
    assert summary.ttft_p99 == pytest.approx(0.2)
    assert summary.ttft_adjusted_p99 == math.inf
    assert json.loads(json.dumps(summary.as_dict(), allow_nan=False))["ttft_adjusted_p99"] == "inf"


def test_who_left_or_was_stopped_says_nothing_of_the_server() -> None:
    left = [sample(outcome="cancelled", first_token_s=None), sample(outcome="stopped")]
    summary = summarise([sample()] * 5 + left * 5, 1.0, None, 1.0)
    assert (summary.failed, summary.cancelled, summary.stopped) == (0, 5, 5)
    assert summary.ttft_adjusted_p99 == pytest.approx(0.2)


def test_a_run_of_nothing_has_no_figures() -> None:
    summary = summarise([], 1.0, None, 1.0)
    assert (summary.offered, summary.outcomes, summary.cached_tokens) == (0, {}, None)
    assert (summary.ttft_p50, summary.itl_p99, summary.client_lag_max) == (None, None, None)


def test_prompts_count_where_they_were_taken_up_and_cached_tokens_where_a_server_said() -> None:
    shed = sample(outcome="shed", status=429, prompt_tokens=500, first_token_s=None, tokens_out=0)
    silent = sample(prompt_tokens=30)
    told = sample(prompt_tokens=70, cached_tokens=64)
    summary = summarise([shed, silent, told], 1.0, None, 1.0)
    assert (summary.prompt_tokens, summary.output_tokens) == (100, 22)
    assert summary.cached_tokens == 64
    assert summarise([shed, silent], 1.0, None, 1.0).cached_tokens is None


def test_gaps_between_tokens_are_those_of_the_times_that_were_kept() -> None:
    steady = sample(tokens_out=100, token_times=[0.01 * n for n in range(100)])
    paused = sample(tokens_out=2, token_times=[0.0, 0.5])
    summary = summarise([steady, paused, sample()], 1.0, None, 1.0)
    assert summary.itl_p50 == pytest.approx(0.01)
    assert summary.itl_p99 == pytest.approx(0.01)  # one gap in a hundred is beyond
    assert summarise([steady, paused, paused], 1.0, None, 1.0).itl_p99 == pytest.approx(0.5)


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
