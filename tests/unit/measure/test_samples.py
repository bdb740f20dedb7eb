from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_samples import any_record, sample

from forebay.measure import METRICS, RequestRecord, sample_run, summarise
from forebay.measure.samples import Draws, Series


def streamed(record: RequestRecord, times: list[float], tokens: int) -> RequestRecord:
    return dataclasses.replace(record, token_times=sorted(times), tokens_out=tokens)


some_times = st.lists(st.floats(0, 60), max_size=6)
with_times = st.builds(streamed, any_record(), some_times, st.integers(1, 20))


many = st.lists(any_record() | with_times, min_size=1, max_size=40)


@given(many, st.lists(any_record() | with_times, max_size=5))
def test_every_figure_is_that_of_the_summary(
    run: list[RequestRecord], tail: list[RequestRecord]
) -> None:
    summary = summarise(run, 1.0, 0.5, 10.0, tail)
    once = Draws.once(sample_run(run, 10.0, 1.0, 0.5, tail))
    for metric in METRICS:
        expected = getattr(summary, metric.name, None)
        if metric.unit == "share":
            expected = getattr(summary, metric.words.replace("failures", "failed")) / len(run)
        found = metric.statistic.under(once)[0]
        assert found == pytest.approx(np.nan if expected is None else expected, nan_ok=True)


@given(st.lists(any_record(), min_size=1, max_size=20), st.data())
def test_drawing_requests_is_as_if_the_run_held_them_so_often(
    run: list[RequestRecord], data: st.DataObject
) -> None:
    run.sort(key=lambda record: record.intended_s)
    times = data.draw(st.lists(st.integers(0, 3), min_size=len(run), max_size=len(run)))
    repeated = [record for record, n in zip(run, times, strict=True) for _ in range(n)]
    drawn = Draws(sample_run(run, 10.0, 1.0), np.array([times], np.int32))
    once = Draws.once(sample_run(repeated, 10.0, 1.0))
    for metric in METRICS:
        found, expected = metric.statistic.under(drawn)[0], metric.statistic.under(once)[0]
        assert found == pytest.approx(expected, nan_ok=True)


def test_the_order_of_the_records_does_not_matter() -> None:
    run = [sample(intended_s=float(s), first_token_s=s + 0.1 * s) for s in (5, 1, 9, 3)]
    shuffled = sample_run(run, 10.0, 1.0)
    assert shuffled.intended_s.tolist() == [1, 3, 5, 9]
    owners = shuffled.series["ttft"].owners
    assert shuffled.intended_s[owners].tolist() == [1, 3, 5, 9]  # the later, the slower


def test_a_series_too_long_to_resample_keeps_its_percentiles() -> None:
    values = np.random.default_rng(0).lognormal(0, 1, 1_000_000)
    thinned = Series.of(values, np.arange(len(values)))
    assert len(thinned.values) <= 200_000
    for q in (1, 50, 99):
        assert np.percentile(thinned.values, q) == pytest.approx(np.percentile(values, q), rel=2e-3)


@pytest.mark.parametrize("duration_s", [0.0, -1.0, np.nan])
def test_an_impossible_duration_is_refused(duration_s: float) -> None:
    with pytest.raises(ValueError, match="run lasts"):
        sample_run([], duration_s, 1.0)
