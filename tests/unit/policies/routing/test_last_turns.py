"""Where the turns of a conversation went before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.routing.session_affinity import SessionAffinity


def test_the_last_turn_is_remembered_and_not_the_one_before() -> None:
    made = SessionAffinity()
    made.note(7, "a", 100)
    made.note(7, "b", 300)
    assert made.last(7) == ("b", 300)
    assert made.last(8) is None


def test_a_prompt_that_names_no_conversation_belongs_to_none() -> None:
    made = SessionAffinity()
    made.note(0, "a", 100)
    assert made.last(0) is None


def test_conversations_of_a_replica_that_is_gone_may_go_anywhere() -> None:
    made = SessionAffinity()
    made.note(7, "a", 100)
    made.note(8, "b", 100)
    made.forget("a")
    assert made.last(7) is None
    assert made.last(8) == ("b", 100)


def test_the_oldest_is_given_up_for_the_newest() -> None:
    made = SessionAffinity()
    for name in range(1, 70_000):
        made.note(name, "a", 1)
        made.note(1, "b", 1)  # goes on all the time
    made.check_integrity()
    assert made.last(2) is None
    assert made.last(1) == ("b", 1)
    assert made.last(69_999) == ("a", 1)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("abc"), st.booleans()), max_size=40))
def test_nobody_is_sent_back_to_a_replica_that_was_forgotten(
    events: list[tuple[int, str, bool]],
) -> None:
    made = SessionAffinity()
    for name, replica, gone in events:
        if gone:
            made.forget(replica)
            assert all((turn := made.last(n)) is None or turn.replica != replica for n in range(6))
        else:
            made.note(name, replica, 1)
