"""A trace made faster, thinner, denser or shorter keeps what each of these says it keeps."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.workload import (
    Gamma,
    Hold,
    RateCurve,
    Row,
    facts,
    faster,
    overlaid,
    thinned,
    window,
    within_context,
)
from forebay.workload.arrivals import arrivals

BLOCK = 16  # tokens


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def row(at_s: float, prompt: int, *blocks: str, output: int = 10) -> Row:
    return Row(
        at_s=at_s, prompt_tokens=prompt, output_tokens=output, blocks=blocks, block_tokens=BLOCK
    )


def chain(user: int, said: int) -> tuple[str, ...]:
    """Names as a hash of all tokens so far gives them: equal ones have equal blocks before them."""
    return tuple(f"{user}/{place}" for place in range(said))


def bursty(seed: int = 0, seconds: float = 400.0, cv: float = 3.0) -> list[Row]:
    """Users who come back with a longer history, in bursts."""
    source = rng(seed)
    times = arrivals(RateCurve((Hold(10.0, seconds),)), Gamma(cv), source)
    said: Counter[int] = Counter()
    rows = []
    for at_s in times.tolist():
        user = int(source.integers(0, 200))
        said[user] += int(source.integers(1, 4))
        rows.append(
            row(
                at_s,
                said[user] * BLOCK,
                *chain(user, said[user]),
                output=int(source.integers(1, 100)),
            )
        )
    return rows


@st.composite
def traces(draw: st.DrawFn) -> list[Row]:
    """Any trace of up to 30 requests from second 0, in order, its blocks a hash chain."""
    gaps = draw(st.lists(st.just(0.0) | st.floats(0.001, 100), min_size=1, max_size=30))
    times = np.cumsum([0.0, *gaps[1:]]).tolist()
    rows = []
    for at_s in times:
        blocks = chain(draw(st.integers(0, 3)), draw(st.integers(0, 4)))
        own = draw(st.integers(0 if blocks else 1, 40))
        rows.append(
            row(
                at_s,
                len(blocks) * BLOCK + own,
                *blocks,
                output=draw(st.integers(1, 99)),
            )
        )
    return rows


def lengths(rows: list[Row]) -> Counter[tuple[int, int]]:
    return Counter((one.prompt_tokens, one.output_tokens) for one in rows)


HAND_MADE = [
    row(0.0, 32, "a", "b", output=5),
    row(1.0, 40, "a", "b", "c", output=15),  # two blocks again after 1 s; c is cut to 8
    row(3.0, 32, "x", "b", output=25),  # b after another beginning is not the same b
    row(7.0, 20, "a", "d", output=35),  # one block again after 6 s; d is cut to 4
]


def test_facts_of_a_trace_by_hand() -> None:
    found = facts(HAND_MADE)
    assert (found.requests, found.seconds) == (4, 7.0)
    assert found.rate == pytest.approx(4 / 7)
    assert found.gap_cv == pytest.approx(np.sqrt(14 / 9) / (7 / 3))  # gaps 1, 2, 4
    assert (found.prompt_mean, found.prompt_p99) == (31.0, 40.0)
    assert (found.output_mean, found.output_p99) == (20.0, 35.0)
    assert found.reusable == pytest.approx((16 + 16 + 16) / 124)
    assert found.reuse_gap_p50_s == 1.0  # of 1, 1 and 6


def test_facts_of_too_little_are_not_made_up() -> None:
    one, two = facts(HAND_MADE[:1]), facts(HAND_MADE[:2])
    assert (one.seconds, one.rate, one.gap_cv, one.reuse_gap_p50_s) == (0.0, 0.0, None, None)
    assert (two.gap_cv, two.rate) == (None, 2.0)
    assert facts([row(1.0, 5)] * 3).gap_cv is None  # all at one moment
    with pytest.raises(ValueError, match="at least one request"):
        facts([])


def test_blocks_beyond_the_prompt_count_for_nothing() -> None:
    long = row(0.0, 20, "a", "b", "c", "d")
    assert facts([long, long]).reusable == pytest.approx(0.5)


@given(traces(), st.floats(0.1, 50))
def test_played_faster_all_but_the_time_stays(rows: list[Row], speed: float) -> None:
    before, after = facts(rows), facts(faster(rows, speed))
    assert after.seconds == pytest.approx(before.seconds / speed)
    assert after.rate == pytest.approx(before.rate * speed)
    assert (after.gap_cv is None) == (before.gap_cv is None)
    assert after.gap_cv is None or after.gap_cv == pytest.approx(before.gap_cv, abs=1e-6)
    assert after.reusable == before.reusable
    if before.reuse_gap_p50_s is not None:
        assert after.reuse_gap_p50_s == pytest.approx(before.reuse_gap_p50_s / speed, abs=1e-9)
    assert lengths(faster(rows, speed)) == lengths(rows)


@given(traces(), st.floats(0.3, 1), st.integers(0, 99))
def test_thinned_a_trace_holds_some_of_its_requests_as_they_were(
    rows: list[Row], share: float, seed: int
) -> None:
    assert thinned(rows, 1.0, rng(seed)) == rows
    if (rng(seed).random(len(rows)) >= share).all():
        with pytest.raises(ValueError, match="is left"):
            thinned(rows, share, rng(seed))
        return
    left = iter(rows)
    assert all(one in left for one in thinned(rows, share, rng(seed)))  # in order, none twice


def test_thinned_a_trace_is_smoother_and_shares_less() -> None:
    rows = bursty()
    kept = thinned(rows, 0.2, rng(1))
    before, after = facts(rows), facts(kept)
    assert after.requests == pytest.approx(0.2 * before.requests, rel=0.1)
    assert before.gap_cv is not None
    assert after.gap_cv is not None
    assert 1.0 < after.gap_cv < 0.75 * before.gap_cv
    assert after.reusable < before.reusable
    assert after.output_mean == pytest.approx(before.output_mean, rel=0.1)
    quarters = [np.histogram([one.at_s for one in r], 4, (0, 400))[0] for r in (rows, kept)]
    assert quarters[1] / len(kept) == pytest.approx(quarters[0] / len(rows), abs=0.05)


def test_of_a_share_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="none of the trace's 4 requests is left"):
        thinned(HAND_MADE, 1e-9, rng())


@given(traces(), st.integers(1, 4), st.integers(0, 99))
def test_laid_over_itself_a_trace_keeps_lengths_reuse_and_each_copys_rate(
    rows: list[Row], copies: int, seed: int
) -> None:
    dense = overlaid(rows, copies, rng(seed))
    assert [one.at_s for one in dense] == sorted(one.at_s for one in dense)
    assert rows[0].at_s <= dense[0].at_s
    assert dense[-1].at_s <= rows[-1].at_s + 1e-9
    assert lengths(dense) == Counter({key: copies * n for key, n in lengths(rows).items()})
    assert facts(dense).reusable == pytest.approx(facts(rows).reusable)


def test_copies_of_a_trace_share_no_block() -> None:
    rows = bursty(seconds=40)
    seen = Counter(block for one in overlaid(rows, 3, rng()) for block in one.blocks)
    once = Counter(block for one in rows for block in one.blocks)
    assert len(seen) == 3 * len(once)
    assert sorted(seen.values()) == sorted([*once.values()] * 3)


def test_laid_over_itself_a_trace_is_smoother() -> None:
    rows = bursty()
    before, after = facts(rows), facts(overlaid(rows, 8, rng(2)))
    assert after.rate == pytest.approx(8 * before.rate, rel=0.01)
    assert before.gap_cv is not None
    assert after.gap_cv is not None
    assert 1.0 < after.gap_cv < 0.75 * before.gap_cv


def test_one_copy_is_the_trace_itself() -> None:
    assert overlaid(HAND_MADE, 1, rng()) == HAND_MADE
    assert len(overlaid(HAND_MADE[:1], 3, rng())) == 3


@given(traces(), st.floats(0, 200), st.none() | st.floats(1, 200))
def test_a_window_starts_at_its_own_second_0(
    rows: list[Row], start: float, seconds: float | None
) -> None:
    end = np.inf if seconds is None else start + seconds
    expected = [one for one in rows if start <= one.at_s < end]
    if not expected:
        with pytest.raises(ValueError, match="holds no request between"):
            window(rows, start, seconds)
        return
    kept = window(rows, start, seconds)
    assert [one.at_s + start for one in kept] == pytest.approx([one.at_s for one in expected])
    assert lengths(kept) == lengths(expected)
    assert all(later.at_s >= earlier.at_s for earlier, later in pairwise(kept))


def test_what_does_not_fit_the_context_is_left_out() -> None:
    assert within_context(HAND_MADE, 55) == [HAND_MADE[0], HAND_MADE[1], HAND_MADE[3]]
    with pytest.raises(ValueError, match="no request of the trace fits a context of 5 tokens"):
        within_context(HAND_MADE, 5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: faster(HAND_MADE, 0.0), "speed above 0"),
        (lambda: faster(HAND_MADE, float("nan")), "speed above 0"),
        (lambda: thinned(HAND_MADE, 0.0, rng()), "above 0 and up to 1"),
        (lambda: thinned(HAND_MADE, 1.1, rng()), "above 0 and up to 1"),
        (lambda: overlaid(HAND_MADE, 0, rng()), "once or more"),
    ],
)
def test_impossible_rescalings_are_refused(make: object, words: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=words):
        make()
