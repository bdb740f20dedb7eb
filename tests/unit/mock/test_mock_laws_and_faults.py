from __future__ import annotations

import re
import statistics
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.measure import percentile
from forebay.mock import parse_law, parse_rule, seconds
from forebay.mock.faults import KINDS, Fault, FaultRule, Stall, check_shares, chosen
from forebay.mock.laws import Fixed, Lognormal, request_rng
from forebay.mock.log import MockLateness
from forebay.mock.scripts import token_offsets


@pytest.mark.parametrize("words", ["200ms", "0s", "lognormal:200ms/800ms", "lognormal:1s/1s"])
def test_a_law_is_written_as_it_is_read(words: str) -> None:
    assert str(parse_law(words)) == words


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("200", "200 has no unit; write 200s"),
        ("-1s", "below zero"),
        ("normal:1s/2s", "write 200ms or lognormal:200ms/800ms"),
        ("lognormal:200ms", "write 200ms or lognormal:200ms/800ms"),
        ("lognormal:2s/1s", "0 < p50 <= p99"),
        ("lognormal:0s/1s", "0 < p50 <= p99"),
        ("soon", "not a duration"),
    ],
)
def test_what_is_no_law_is_refused_with_a_way_out(words: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        parse_law(words)


def test_a_lognormal_has_the_quantiles_it_is_written_with() -> None:
    law = Lognormal(0.2, 0.8)
    drawn = law.draw(200_000, np.random.default_rng(1))
    assert percentile(drawn, 50) == pytest.approx(0.2, rel=0.02)
    assert percentile(drawn, 99) == pytest.approx(0.8, rel=0.03)
    assert statistics.fmean(drawn) == pytest.approx(law.mean_s, rel=0.02)


def test_a_request_draws_the_same_whatever_came_before_it() -> None:
    def offsets(seed: int, number: int) -> list[float]:
        rng = request_rng(seed, number)
        return list(token_offsets(Lognormal(0.2, 0.8), Lognormal(0.01, 0.05), 50, rng))

    assert offsets(3, 7) == offsets(3, 7)
    assert len({tuple(offsets(seed, number)) for seed in (3, 4) for number in range(5)}) == 10


def test_fixed_times_are_exact() -> None:
    offsets = token_offsets(Fixed(0.2), Fixed(0.01), 4, request_rng(0, 0))
    assert list(offsets) == [0.2 + k * 0.01 for k in range(4)]


@settings(deadline=None)
@given(count=st.integers(1, 100))
def test_offsets_ascend_one_a_token(count: int) -> None:
    offsets = list(token_offsets(Fixed(0.2), Lognormal(0.01, 0.1), count, request_rng(0, 1)))
    assert len(offsets) == count
    assert offsets == sorted(offsets)
    assert offsets[0] == 0.2


@pytest.mark.parametrize(
    "words",
    [
        "drop",
        "cut=3 5%",
        "503 20% from 10s for 5s",
        "429=5s",
        "stall=2s 0.5%",
        "stall=2s from 1s for 3s",
        "chunk=4 from 1m",
        "stall from 3s for 2s",
        "hang for 500ms",
    ],
)
def test_a_rule_is_written_as_it_is_read(words: str) -> None:
    assert str(parse_rule(words)) == words


@settings(deadline=None)
@given(kind=st.sampled_from(KINDS))
def test_every_fault_can_be_written_without_its_value(kind: str) -> None:
    fault = Fault.parse(kind)
    assert Fault.parse(str(fault)) == fault


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "write FAULT [SHARE%]"),
        ("drop sometimes", "write FAULT [SHARE%]"),
        ("dorp", "did you mean drop?"),
        ("drop=1", "drop takes no value"),
        ("cut=few", "write cut=3"),
        ("chunk=0", "1 or more"),
        ("stall=2", "no unit"),
        ("drop 0%", "share"),
        ("drop 120%", "share"),
        ("drop 1.2.3%", "no share"),
        ("drop for 0s", "window"),
        ("stall from 3s", "a stall ends"),
    ],
)
def test_what_is_no_rule_is_refused_with_a_way_out(words: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        parse_rule(words)


def test_each_rule_gets_its_share_in_its_window_alone() -> None:
    rules = [FaultRule(Fault("drop"), 0.1), FaultRule(Fault("500"), 0.3, from_s=10, for_s=5)]
    draws = [(n + 0.5) / 1000 for n in range(1000)]

    def counts(at: float) -> Counter[str]:
        return Counter(str(chosen(rules, draw, at)) for draw in draws)

    assert counts(9.9) == {"drop": 100, "None": 900}
    assert counts(10.0) == {"drop": 100, "500": 300, "None": 600}
    assert counts(15.0) == {"drop": 100, "None": 900}


def test_shares_of_one_moment_must_fit_together() -> None:
    half = FaultRule(Fault("drop"), 0.5, for_s=10)
    check_shares([half, FaultRule(Fault("500"), 0.6, from_s=10)])
    with pytest.raises(ValueError, match=r"add up to 110% from 5s on"):
        check_shares([half, FaultRule(Fault("500"), 0.6, from_s=5)])


def test_a_stall_by_the_clock_is_no_rule_for_requests() -> None:
    assert parse_rule("stall from 3s for 2s") == Stall(3.0, 2.0)
    assert parse_rule("stall for 2s") == Stall(0.0, 2.0)
    assert parse_rule("stall 5% from 3s for 2s") == FaultRule(Fault("stall", 1.0), 0.05, 3.0, 2.0)


def test_a_duration_needs_its_unit() -> None:
    with pytest.raises(ValueError, match="write 5s or 5000ms"):
        seconds("5")


@settings(deadline=None)
@given(lates=st.lists(st.floats(0, 3), min_size=1), q=st.floats(0.1, 100))
def test_lateness_is_told_to_ten_microseconds(lates: list[float], q: float) -> None:
    lateness = MockLateness()
    for late in lates:
        lateness.add(late)
    exact, told = percentile(lates, q), lateness.percentile(q)
    assert exact is not None
    assert told is not None
    assert exact - 1e-9 <= told <= (exact + 1.1e-5 if exact < 0.9999 else max(lates))
    assert lateness.most_s == max(lates)


def test_lateness_of_nothing_is_none() -> None:
    assert MockLateness().percentile(50) is None
