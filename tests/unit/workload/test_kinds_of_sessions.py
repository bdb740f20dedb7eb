"""Sessions are what their kinds say: mixes, prefixes, conversations, clients that leave."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workload_samples import TALK, kind, kinds_named, mixes

from forebay.workload import (
    Cancelling,
    Conversations,
    Fixed,
    Joint,
    Kind,
    Pause,
    PrefixPool,
    Session,
    Uniform,
)
from forebay.workload.kinds import sessions
from forebay.workload.prompts import total_tokens

seeds = st.integers(0, 2**40)


def drawn(count: int, *kinds: Kind, seed: int = 0) -> list[Session]:
    return list(islice(sessions(kinds, seed), count))


def within(found: float, share: float, of: int, sigmas: float = 4.0) -> bool:
    """Whether a count lies within so many standard deviations of a binomial law."""
    return abs(found - of * share) <= sigmas * math.sqrt(of * share * (1 - share))


@given(mixes, seeds)
def test_the_same_seed_gives_the_same_sessions(mix: tuple[Kind, ...], seed: int) -> None:
    found = drawn(400, *mix, seed=seed)
    assert found == drawn(400, *mix, seed=seed)
    assert [session.number for session in found] == list(range(400))


def test_another_seed_gives_other_sessions() -> None:
    assert drawn(400, kind("a"), kind("b")) != drawn(400, kind("a"), kind("b"), seed=1)


@given(mixes, st.integers(0, 2), st.data())
def test_a_change_of_one_kind_leaves_the_others_as_they_were(
    mix: tuple[Kind, ...], changed: int, data: st.DataObject
) -> None:
    before = mix[changed]
    after = data.draw(kinds_named(before.name))
    other = list(mix)
    other[changed] = replace(after, share=before.share)
    for old, new in zip(drawn(600, *mix), drawn(600, *other), strict=True):
        assert old.kind == new.kind
        if old.kind != before.name:
            assert old == new


def test_alike_kinds_ask_alike_but_not_the_same() -> None:
    found = drawn(400, kind("a"), kind("b"))
    asked = [[s.turns[0].prompt_tokens for s in found if s.kind == name][:100] for name in "ab"]
    assert asked[0] != asked[1]
    assert np.mean(asked[0]) == pytest.approx(np.mean(asked[1]), rel=0.3)


def test_a_change_of_the_shares_leaves_what_each_kind_asks() -> None:
    def lengths(share: float) -> list[tuple[int, int]]:
        found = drawn(2000, kind("a"), kind("b", share=share))
        turns = [session.turns[0] for session in found if session.kind == "a"]
        return [(turn.prompt_tokens, turn.output_tokens) for turn in turns][:300]

    assert lengths(1.0) == lengths(3.0)


def test_kinds_come_up_by_their_shares() -> None:
    shares = {"a": 1.0, "b": 2.0, "c": 5.0}
    found = drawn(8000, *(kind(name, share=share) for name, share in shares.items()))
    counts = Counter(session.kind for session in found)
    assert all(within(counts[name], share / 8, 8000) for name, share in shares.items())


def test_tenants_come_up_by_their_weights_and_classes_stay_with_their_kind() -> None:
    mix = (
        kind("a", class_name="interactive", tenants=(("x", 1.0), ("y", 3.0))),
        kind("b", class_name="batch"),
    )
    found = drawn(8000, *mix)
    counts = Counter((session.kind, session.class_name, session.tenant) for session in found)
    of_a = counts["a", "interactive", "x"] + counts["a", "interactive", "y"]
    assert within(counts["a", "interactive", "x"], 0.25, of_a)
    assert of_a + counts["b", "batch", ""] == 8000


@given(mixes, seeds)
def test_a_conversations_history_adds_up(mix: tuple[Kind, ...], seed: int) -> None:
    for session in drawn(300, *mix, seed=seed):
        said = 0
        for turn, request in enumerate(session.turns):
            assert request.history_tokens == said
            assert request.prompt_tokens == said + total_tokens(request.segments)
            said = request.prompt_tokens + request.output_tokens
            assert (request.think_s == 0.0) or turn > 0


@given(mixes)
def test_nothing_is_shared_but_what_is_marked_as_shared(mix: tuple[Kind, ...]) -> None:
    """Two requests with one unmarked segment would hit the prefix cache by accident."""
    own: list[str] = []
    for session in drawn(600, *mix):
        for turn, request in enumerate(session.turns):
            shared = [segment.shared for segment in request.segments]
            assert shared in ([False], [True, False])
            assert turn == 0 or shared == [False]  # the history holds the prefix
            own.append(request.segments[-1].name)
    assert len(set(own)) == len(own)


def test_a_shared_beginning_comes_on_top_of_the_lengths() -> None:
    pool = PrefixPool("a", 3, Uniform(200, 300))
    found = drawn(2000, kind(lengths=Joint(((10, 5),)), prefixes=pool))
    prefixes = Counter(session.turns[0].segments[0] for session in found)
    assert len(prefixes) == 3  # each has one length, drawn once
    assert {session.turns[0].segments[1].tokens for session in found} == {10}
    first = next(count for prefix, count in prefixes.items() if prefix.name.endswith("/0"))
    assert within(first, 1 / (1 + 1 / 2 + 1 / 3), 2000)


def test_conversations_have_turns_and_pauses_by_their_laws() -> None:
    found = drawn(4000, kind(conversations=TALK))
    turns = np.array([len(session.turns) for session in found])
    assert set(turns) == {1, 2, 3, 4}
    assert turns.mean() == pytest.approx(2.5, abs=4 * turns.std() / np.sqrt(4000))
    thinks = [turn.think_s for session in found for turn in session.turns[1:]]
    assert np.percentile(thinks, 50) == pytest.approx(2.0, rel=0.1)
    assert np.percentile(thinks, 99) == pytest.approx(20.0, rel=0.2)


def test_recorded_conversations_are_drawn_whole() -> None:
    recorded = (((5, 2), (7, 3)), ((100, 50),), ((1, 1), (2, 2), (3, 3)))
    found = drawn(900, kind(recorded=recorded, conversations=TALK))
    counts = Counter(
        tuple((total_tokens(turn.segments), turn.output_tokens) for turn in session.turns)
        for session in found
    )
    assert set(counts) == set(recorded)
    assert all(within(count, 1 / 3, 900) for count in counts.values())


def test_as_many_clients_leave_as_were_asked_for() -> None:
    after = Pause(0.5, 3.0)
    found = drawn(8000, kind(cancelling=Cancelling(0.3, after)))
    waits = [session.turns[0].cancel_after_s for session in found]
    left = [wait for wait in waits if wait is not None]
    assert within(len(left), 0.3, 8000)
    assert np.percentile(left, 50) == pytest.approx(0.5, rel=0.1)
    assert np.percentile(left, 99) == pytest.approx(3.0, rel=0.25)
    every, nobody = Cancelling(1.0, after), Cancelling(0.0, after)
    assert all(one.turns[0].cancel_after_s for one in drawn(500, kind(cancelling=every)))
    assert not any(one.turns[0].cancel_after_s for one in drawn(500, kind(cancelling=nobody)))


def test_a_pause_of_one_figure_is_constant() -> None:
    assert Pause(2.0, 2.0).draw(5, np.random.default_rng(0)) == pytest.approx([2.0] * 5)


def test_a_session_asks_as_many_turns_as_its_law_says() -> None:
    talk = Conversations(turns=Fixed(3), think=Pause(1.0, 1.0))
    assert all(len(session.turns) == 3 for session in drawn(50, kind(conversations=talk)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pause(0.0, 1.0),
        lambda: Pause(2.0, 1.0),
        lambda: Cancelling(1.5, Pause(1.0, 1.0)),
        lambda: Cancelling(-0.1, Pause(1.0, 1.0)),
        lambda: sessions([], 0),
        lambda: sessions([kind(share=0.0)], 0),
        lambda: sessions([kind(share=-1.0), kind("b")], 0),
    ],
)
def test_impossible_kinds_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=r"\w"):
        make()
