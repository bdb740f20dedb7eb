"""What a replica without a router expects of its own prefix cache."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.routing import OwnPrefixes, Prompt, chunk_hashes, under_salt

BYTES_PER_TOKEN = 4.0
ROOM = 10_000_000.0


def prompt(text: bytes) -> Prompt:
    return Prompt(len(text), chunk_hashes(text))


LONG = prompt(b"system " * 2_000)


def learned(cached_share: float) -> OwnPrefixes:
    """After so long that prompts which begin alike turned out to be cached in such a share."""
    prefixes, seen = OwnPrefixes(), 0.0
    for _ in range(60):
        prefixes.let_in(LONG, BYTES_PER_TOKEN)
        seen += LONG.size / BYTES_PER_TOKEN
        prefixes.observe(seen, seen * cached_share, ROOM)
    return prefixes


def test_nothing_is_expected_of_a_prompt_that_begins_like_none_before() -> None:
    assert learned(1.0).expected(prompt(b"another " * 2_000), BYTES_PER_TOKEN) == 0


@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_what_is_expected_is_what_the_engine_really_had(share: float) -> None:
    tokens = LONG.size / BYTES_PER_TOKEN
    assert learned(share).expected(LONG, BYTES_PER_TOKEN) == pytest.approx(
        share * tokens, abs=0.1 * tokens
    )


def test_who_was_refused_has_brought_nothing() -> None:
    prefixes = OwnPrefixes()
    prefixes.expected(LONG, BYTES_PER_TOKEN)
    assert prefixes.expected(LONG, BYTES_PER_TOKEN) == 0


def test_tenants_whose_caches_are_kept_apart_are_promised_nothing_of_each_other() -> None:
    prefixes = OwnPrefixes()
    prefixes.let_in(under_salt(LONG, "a"), BYTES_PER_TOKEN)
    assert prefixes.expected(under_salt(LONG, "a"), BYTES_PER_TOKEN) > 0
    assert prefixes.expected(under_salt(LONG, "b"), BYTES_PER_TOKEN) == 0
    assert prefixes.expected(under_salt(LONG, None), BYTES_PER_TOKEN) == 0


def test_what_the_kv_cache_cannot_hold_is_not_expected() -> None:
    prefixes = OwnPrefixes()
    prefixes.observe(0, 0, 5_000.0)
    prefixes.let_in(LONG, BYTES_PER_TOKEN)
    assert prefixes.expected(LONG, BYTES_PER_TOKEN) <= 5_000 / BYTES_PER_TOKEN


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 9_000), st.floats(0, 1), st.floats(0, 1e5)),
        max_size=30,
    )
)
def test_never_more_is_expected_than_the_prompt_has(
    sends: list[tuple[int, int, float, float]],
) -> None:
    prefixes, seen, cached = OwnPrefixes(), 0.0, 0.0
    for kind, size, share, room in sends:
        one = under_salt(prompt(bytes([kind]) * size), str(kind % 2))
        assert 0 <= prefixes.expected(one, BYTES_PER_TOKEN) <= size / BYTES_PER_TOKEN
        prefixes.let_in(one, BYTES_PER_TOKEN)
        seen, cached = seen + size, cached + size * share
        prefixes.observe(seen, cached, room)
        prefixes.check_integrity()
