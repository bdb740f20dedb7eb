from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queue_runs import queue_run

from forebay.measure import Comparison, Margins, RunSample, compare
from forebay.measure.comparison import Verdict

OPPOSITE: dict[Verdict, Verdict] = {
    "better": "worse", "worse": "better", "same": "same", "undecided": "undecided"
}  # fmt: skip
LATENCIES = ("ttft_p50", "ttft_p95", "ttft_p99", "tpot_p50", "tpot_p99", "e2e_p50", "e2e_p99")


def compared(a: Sequence[RunSample], b: Sequence[RunSample], **more: object) -> Comparison:
    return compare(a, b, np.random.default_rng(0), resamples=60, **more)  # type: ignore[arg-type]


def verdicts(comparison: Comparison) -> dict[str, Verdict]:
    return {one.metric.name: one.verdict for one in comparison.metrics}


@st.composite
def run_sets(draw: st.DrawFn) -> list[RunSample]:
    """One to four runs, some with failures, some slow."""
    seeds = draw(st.lists(st.integers(0, 10_000), min_size=1, max_size=4))
    scale = draw(st.sampled_from([0.5, 1.0, 1.05, 2.0]))
    fails = draw(st.sampled_from([0.0, 0.0, 0.02, 1.0]))
    size = draw(st.sampled_from([1, 5, 60, 400]))
    return [queue_run(seed, size, scale=scale, fails=fails) for seed in seeds]


@given(run_sets(), run_sets())
def test_exchanging_the_sides_turns_every_answer_round(
    a: list[RunSample], b: list[RunSample]
) -> None:
    forth, back = verdicts(compared(a, b)), verdicts(compared(b, a))
    assert back == {name: OPPOSITE[verdict] for name, verdict in forth.items()}


@given(run_sets(), st.booleans())
def test_a_set_is_no_better_and_no_worse_than_itself(a: list[RunSample], paired: bool) -> None:
    assert set(verdicts(compared(a, a, paired=paired)).values()) <= {"same", "undecided"}


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=3),
    st.lists(st.integers(0, 1000), min_size=1, max_size=3),
    st.floats(0.01, 100),
)
def test_the_unit_of_time_does_not_matter(a: list[int], b: list[int], factor: float) -> None:
    plain = compared([queue_run(s) for s in a], [queue_run(s, scale=1.3) for s in b])
    scaled = compared(
        [queue_run(s, unit=factor) for s in a], [queue_run(s, scale=1.3, unit=factor) for s in b]
    )
    for name in LATENCIES:
        assert scaled[name].verdict == plain[name].verdict
        assert scaled[name].change == pytest.approx(plain[name].change)


@given(run_sets(), run_sets(), st.floats(0, 1), st.floats(0, 1))
def test_a_wider_margin_keeps_what_is_the_same(
    a: list[RunSample], b: list[RunSample], one: float, other: float
) -> None:
    narrow, wide = (
        compared(a, b, margins=Margins(ratio=margin, share=margin))
        for margin in sorted((one, other))
    )
    assert {m.metric.name for m in narrow.with_verdict("same")} <= {
        m.metric.name for m in wide.with_verdict("same")
    }


@given(run_sets(), run_sets())
@settings(max_examples=20)
def test_the_same_seed_gives_the_same_answer(a: list[RunSample], b: list[RunSample]) -> None:
    assert compared(a, b).as_dict() == compared(a, b).as_dict()


@given(run_sets(), run_sets())
def test_every_figure_lies_in_its_interval_and_json_holds_it(
    a: list[RunSample], b: list[RunSample]
) -> None:
    found = compared(a, b)
    for one in found.metrics:
        if len(a) > 1 and len(b) > 1 and math.isfinite(one.change):
            assert one.interval.low <= one.change + 1e-9 * abs(one.change)
            assert one.change <= one.interval.high + 1e-9 * abs(one.change)
    json.dumps(found.as_dict(), allow_nan=False)


def test_twice_the_latency_is_worse_and_half_is_better() -> None:
    a, b = [queue_run(s) for s in range(5)], [queue_run(s, scale=2.0) for s in range(5, 10)]
    assert compared(a, b)["tpot_p50"].verdict == "worse"
    assert compared(b, a)["tpot_p50"].verdict == "better"
    assert compared(a, b)["tpot_p50"].change == pytest.approx(2.0, rel=0.05)


def test_a_rate_is_the_better_the_higher() -> None:
    slow = [queue_run(s, 600, fails=0.3) for s in range(5)]
    fast = [queue_run(s, 600) for s in range(5, 10)]
    found = compared(slow, fast)
    assert (found["goodput_per_s"].verdict, found["failure_share"].verdict) == ("better", "better")
    assert found["failure_share"].change == pytest.approx(-0.3, abs=0.03)


def test_pairs_see_what_the_drift_between_them_hides() -> None:
    drift = (1.0, 1.5, 2.2, 3.3, 5.0)
    a = [queue_run(s, 400, scale=by) for s, by in enumerate(drift)]
    b = [queue_run(s, 400, scale=1.2 * by) for s, by in enumerate(drift)]
    assert compared(a, b)["ttft_p50"].verdict == "undecided"
    assert compared(a, b, paired=True)["ttft_p50"].verdict == "worse"


def test_failures_beyond_one_percent_make_the_adjusted_p99_endless_and_worse() -> None:
    a = [queue_run(s, 300) for s in range(4)]
    b = [queue_run(s, 300, fails=0.1) for s in range(4, 8)]
    found = compared(a, b)["ttft_adjusted_p99"]
    assert (found.b, found.change, found.verdict) == (math.inf, math.inf, "worse")
    assert found.as_dict()["b"] == "inf"
    both = compared(b, b)["ttft_adjusted_p99"]
    assert both.verdict == "undecided"
    assert math.isnan(both.change)
    assert both.as_dict()["change"] is None


def test_an_endless_p99_is_undecided_with_too_few_runs_to_order() -> None:
    a = [queue_run(s, 300) for s in range(3)]
    b = [queue_run(s, 300, fails=0.1) for s in range(3, 6)]
    assert compared(a, b)["ttft_adjusted_p99"].verdict == "undecided"


def test_an_endless_p99_of_single_runs() -> None:
    a, b = queue_run(0, 1000), queue_run(1, 1000, fails=0.1)
    assert compared([a], [b])["ttft_adjusted_p99"].verdict == "worse"
    assert compared([b], [a])["ttft_adjusted_p99"].verdict == "better"


def test_a_run_without_an_answer_leaves_its_latency_undecided() -> None:
    a, dead = [queue_run(s) for s in range(3)], [queue_run(0), queue_run(1, fails=1.0)]
    found = compared(a, dead)["ttft_p50"]
    assert found.verdict == "undecided"
    assert found.note == "nothing measured in 0 of the runs of A and 1 of those of B"


def test_what_no_run_has_is_left_out() -> None:
    assert "itl_p99" not in verdicts(compared([queue_run(0)], [queue_run(1)]))


@pytest.mark.parametrize(
    ("runs_a", "runs_b", "note"),
    [
        (1, 1, "not that from run to run"),
        (1, 5, "A has one run"),
        (5, 1, "B has one run"),
        (3, 5, "fewer than 5 runs a side"),
    ],
)
def test_the_result_says_what_its_intervals_lack(runs_a: int, runs_b: int, note: str) -> None:
    found = compared([queue_run(s) for s in range(runs_a)], [queue_run(s) for s in range(runs_b)])
    (said,) = found.notes
    assert note in said


def test_five_runs_a_side_need_no_note() -> None:
    runs = [queue_run(s) for s in range(5)]
    assert compared(runs, runs).notes == ()


def test_impossible_sides_are_refused() -> None:
    run = queue_run(0)
    with pytest.raises(ValueError, match="at least one run"):
        compared([], [run])
    with pytest.raises(ValueError, match="equal numbers, not 1 and 2"):
        compared([run], [run, run], paired=True)
