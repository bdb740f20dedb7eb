"""Kinds of request for the tests here: one by hand, any by hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from forebay.workload import (
    Cancelling,
    Conversations,
    Fixed,
    Independent,
    Joint,
    Kind,
    Lengths,
    Pause,
    PrefixPool,
    Uniform,
)

TALK = Conversations(turns=Uniform(1, 4), think=Pause(2.0, 20.0))


def kind(name: str = "a", **changes: Any) -> Kind:
    """Single requests of 10-99 tokens in and 1-9 out."""
    values: dict[str, Any] = {
        "name": name,
        "lengths": Independent(Uniform(10, 99), Uniform(1, 9)),
    }
    return Kind(**(values | changes))


lengths: st.SearchStrategy[Lengths] = st.one_of(
    st.builds(Fixed, st.integers(1, 500)),
    st.builds(
        lambda least, more: Uniform(least, least + more), st.integers(1, 50), st.integers(0, 9)
    ),
)
pairs = st.lists(st.tuples(st.integers(1, 99), st.integers(1, 99)), min_size=1, max_size=4)
pauses = st.builds(lambda p50, k: Pause(p50, k * p50), st.floats(0.1, 9), st.floats(1, 9))


def kinds_named(name: str) -> st.SearchStrategy[Kind]:
    """Any kind of this name."""
    laws = st.builds(Independent, lengths, lengths) | st.builds(Joint, pairs.map(tuple))
    pools = st.builds(PrefixPool, st.just(name), st.integers(1, 5), lengths, st.floats(0, 2))
    turns = st.builds(Uniform, st.just(1), st.integers(1, 4))
    return st.builds(
        Kind,
        name=st.just(name),
        share=st.floats(0.1, 10),
        lengths=laws,
        prefixes=st.none() | pools,
        conversations=st.none() | st.builds(Conversations, turns, pauses),
        recorded=st.just(()) | st.lists(pairs.map(tuple), min_size=1, max_size=3).map(tuple),
        cancelling=st.none() | st.builds(Cancelling, st.floats(0, 1), pauses),
        class_name=st.sampled_from(["", "interactive", "batch"]),
        tenants=st.sampled_from([(), (("x", 1.0),), (("x", 1.0), ("y", 3.0))]),
    )


mixes = st.tuples(kinds_named("a"), kinds_named("b"), kinds_named("c"))
