"""Routing: the replica with the least predicted seconds to first token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.routing import Prompt, ReplicaStats, RoutingPolicy
from forebay.policies.routing.prefix_index import SMALL_CHUNK

RATE = 10_000
PERIOD_S = 0.5
IDLE = ReplicaStats(sequence=1, wait_s=0.0, prefill_rate=RATE)


def policy(routers: int = 1) -> RoutingPolicy:
    return RoutingPolicy(PERIOD_S, Random(0).random, routers)


def published(**waits: float) -> RoutingPolicy:
    """Waits as publications tell them that were made a period before time 0."""
    made = policy()
    for name, wait in waits.items():
        made.publish(name, stats(wait + PERIOD_S if wait else 0.0), now=0.0)
    return made


def stats(wait_s: float, sequence: int = 1, rate: float = RATE, **more: float) -> ReplicaStats:
    return ReplicaStats(sequence, wait_s, rate, **more)  # type: ignore[arg-type]


def idle(made: RoutingPolicy, names: str, now: float) -> None:
    """All these replicas publish that nothing waits, under numbers that rise with time."""
    for name in names:
        made.publish(name, stats(0.0, sequence=round(now * 10) + 1), now)


def tokens(count: int) -> Prompt:
    return Prompt(size=count * 4)


def text(*chunks: int, extra: int = 0) -> Prompt:
    """A prompt of these chunks and `extra` bytes that are nobody else's."""
    return Prompt(size=len(chunks) * SMALL_CHUNK + extra, chunks=chunks)


LONG = text(*range(1, 41))  # 20 KiB: 5,120 tokens, half a second of prefill


def test_a_long_prompt_goes_where_it_is_computed_fastest() -> None:
    for size, best in ((10, "near"), (10_000, "fast")):
        made = policy()
        made.publish("near", stats(0.0, rate=1_000), now=0.0)
        made.publish("fast", stats(0.2 + PERIOD_S, rate=100_000), now=0.0)
        assert made.choose(["near", "fast"], tokens(size), now=0.0) == best


def test_a_burst_between_publications_spreads() -> None:
    made = published(a=0.0, b=0.0, c=0.0, d=0.0)
    picks = Counter(made.choose(["a", "b", "c", "d"], tokens(500), now=0.01) for _ in range(100))
    assert max(picks.values()) - min(picks.values()) <= 4  # equals are drawn


def test_a_burst_of_cached_prompts_spreads_too() -> None:
    made = published(a=0.0, b=0.0, c=0.0, d=0.0)
    made.choose(["a"], LONG, now=0.0)
    idle(made, "abcd", now=2.0)
    picks = Counter(made.choose(["a", "b", "c", "d"], LONG, now=2.0) for _ in range(400))
    assert len(picks) == 4
    assert max(picks.values()) <= 1.3 * 100


def test_no_request_is_free_however_little_of_it_is_to_be_computed() -> None:
    made = published(a=0.0, b=0.3)
    for _ in range(100):
        made.choose(["a"], tokens(1), now=0.0)
    assert made.choose(["a", "b"], tokens(1), now=0.0) == "b"


def test_a_publication_replaces_the_sends_that_it_has_seen() -> None:
    made = published(a=0.0, b=0.05)
    for _ in range(20):
        made.choose(["a"], tokens(1_000), now=0.0)
    assert made.choose(["a", "b"], tokens(100), now=0.1) == "b"
    made.publish("a", stats(0.0, 2), now=1.0)
    made.publish("b", stats(0.05 + PERIOD_S, 2), now=1.0)
    waits = [made.predicted_s(name, tokens(100), now=1.0) for name in ("a", "b")]
    assert waits[0] < waits[1]


def test_sends_made_since_a_publication_are_queued_behind_it() -> None:
    made = published(a=0.0, b=0.0)
    made.choose(["a"], tokens(8_000), now=0.9)
    made.publish("a", stats(0.0, 2), now=1.0)  # made before that send
    made.publish("b", stats(0.0, 2), now=1.0)
    assert made.predicted_s("a", tokens(10), now=1.0) > 0.6
    assert made.choose(["a", "b"], tokens(10), now=1.0) == "b"


def test_work_is_done_while_no_publication_comes() -> None:
    made = published(a=1.0, b=0.5)
    made.choose(["b"], tokens(3_000), now=0.0)
    assert made.predicted_s("b", tokens(1), now=0.4) == pytest.approx(0.4, abs=0.02)
    assert made.predicted_s("a", tokens(1), now=0.4) == pytest.approx(0.6, abs=0.02)


def test_the_part_of_a_wait_that_is_no_queue_does_not_pass_by_itself() -> None:
    made = policy()
    made.publish("slow", stats(0.3, overhead_s=0.3), now=0.0)
    made.publish("queue", stats(0.3), now=0.0)
    made.publish("both", stats(1.0, overhead_s=0.3), now=0.0)
    assert made.predicted_s("both", tokens(1), now=0.0) == pytest.approx(0.506, abs=0.002)
    assert made.predicted_s("slow", tokens(1), now=0.4) == pytest.approx(0.306, abs=0.002)
    assert made.choose(["slow", "queue"], tokens(1), now=0.4) == "queue"


def test_the_same_publication_twice_changes_nothing() -> None:
    made = published(a=0.0)
    made.choose(["a"], tokens(9_000), now=0.0)
    before = made.predicted_s("a", tokens(0), now=0.6)
    made.publish("a", IDLE, now=0.6)
    assert made.predicted_s("a", tokens(0), now=0.6) == before > 0.2


def test_overdue_stats_are_discounted() -> None:
    made = published(a=0.0)
    made.publish("b", stats(0.5 + PERIOD_S), now=3.0)
    assert made.choose(["a", "b"], tokens(100), now=3.0) == "b"


def test_a_replica_not_heard_of_for_long_gets_nothing_unless_there_is_nobody_else() -> None:
    made = published(a=0.0)
    made.publish("b", stats(60.0), now=60.0)
    assert made.choose(["a", "b"], tokens(100), now=60.0) == "b"
    assert made.choose(["a"], tokens(100), now=3_600.0) == "a"


def test_what_a_draining_replica_had_is_forgotten_once_and_not_at_each_publication(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = published(a=0.0, b=0.0)
    forgotten: list[str] = []
    monkeypatch.setattr(made._conversations, "forget", forgotten.append)
    for sequence in range(2, 6):
        made.publish("b", stats(0.0, sequence, draining=True), now=0.0)
    made.publish("b", stats(0.0, 1, draining=True), now=0.0)  # it started anew
    assert forgotten == ["b", "b"]


def test_a_replica_that_has_just_started_is_not_run_down() -> None:
    made = published(a=0.1, b=0.1, c=0.1)
    picks = Counter(made.choose(["a", "b", "c", "new"], tokens(500), now=0.0) for _ in range(80))
    assert 20 <= picks["new"] <= 24


def test_a_replica_that_has_told_no_rate_is_taken_to_be_like_the_others() -> None:
    made = policy()
    made.publish("a", stats(0.0, rate=1_000), now=0.0)
    assert made.predicted_s("new", tokens(1_000), now=0.0) == pytest.approx(1.0, abs=0.05)


def test_an_answer_of_a_replica_that_has_told_none_takes_as_long_as_the_others() -> None:
    made = published(a=0.0, b=0.0)
    made.publish("a", stats(0.0, 2, answer_s=0.5), now=0.0)
    for name in "ab":
        made.choose([name], tokens(100), now=0.0)
    assert made._load.of("a", 0.0) == made._load.of("b", 0.0) > 0.5


def even_fleet(context: int) -> tuple[RoutingPolicy, Callable[[int], Counter[str]]]:
    """Four replicas after 20 s of 40 requests/s, and what sends so many more of these."""
    made = policy()
    numbers = iter(range(10_000))

    def send(requests: int) -> Counter[str]:
        picks: Counter[str] = Counter()
        for number in islice(numbers, requests):
            if number % 20 == 0:
                for name in "abcd":
                    told = stats(0.0, number + 1, answer_s=0.02, context_tokens=context)
                    made.publish(name, told, number / 40)
            picks[made.choose([*"abcd"], tokens(500), number / 40)] += 1
        return picks

    assert max(send(800).values()) < 210
    return made, send


@pytest.mark.parametrize("context", [2_048, 16_384, 131_072])
def test_a_prompt_that_no_context_holds_takes_no_others_from_the_replica_that_refuses_it(
    context: int,
) -> None:
    made, send = even_fleet(context)
    refusing = made.choose([*"abcd"], Prompt(4 * 2**20), now=20.0)
    assert send(400)[refusing] > 70


def test_a_prompt_that_fills_the_context_counts_in_full() -> None:
    made = published(a=0.0)
    made.publish("a", stats(0.0, 2, context_tokens=20_000), now=0.0)
    assert made.predicted_s("a", tokens(20_000), now=0.0) == pytest.approx(2.0, abs=0.02)
    assert made.predicted_s("a", tokens(25_000), now=0.0) == pytest.approx(2.0, abs=0.02)
    assert made.predicted_s("new", tokens(25_000), now=0.0) == pytest.approx(2.0, abs=0.02)


def test_a_replica_that_joins_a_busy_fleet_fills_up_to_the_others_and_no_further() -> None:
    """It is first heard of a second and a half after it is there."""
    made, rng, rate, names = policy(), Random(0), 28, [*"abcd"]
    ends: dict[str, list[float]] = {name: [] for name in "abcdn"}
    under_way: list[tuple[str, ReplicaStats]] = []
    most = 0.0
    for number in range(40 * rate):
        now = number / rate
        if number == 20 * rate:
            names = [*"abcdn"]
        running = {name: sum(end > now for end in ends[name]) for name in names}
        if number % (rate // 2) == 0:
            for name, told in under_way:
                made.publish(name, told, now)
            under_way = [
                (name, stats(0.0, number + 1, answer_s=0.1, ongoing=running[name]))
                for name in (names if now >= 21.0 else "abcd")
            ]
        if "n" in running:
            most = max(most, running["n"] / (sum(running.values()) / 5))
        ends[made.choose(names, tokens(200), now)].append(now + rng.expovariate(1 / 2.0))
    assert most < 1.7
    assert len(ends["n"]) > 0.8 * 20 * rate / 5


def test_no_candidates_is_an_error() -> None:
    with pytest.raises(ValueError, match="no replica"):
        policy().choose([], tokens(1), now=0.0)


def test_a_prompt_returns_to_where_its_prefix_is() -> None:
    made = published(a=0.0, b=0.0, c=0.0)
    made.choose(["b"], LONG, now=0.0)
    for now in (1.0, 2.0, 3.0, 4.0):
        idle(made, "abc", now)
        assert made.choose(["a", "b", "c"], LONG, now) == "b"


def test_a_loaded_replica_loses_prompts_whose_prefix_it_has_and_the_other_learns_them() -> None:
    made = published(a=0.0, b=0.0)
    made.choose(["a"], LONG, now=0.0)
    made.publish("a", stats(3.0, 2), now=1.0)
    made.publish("b", stats(0.0, 2), now=1.0)
    assert made.choose(["a", "b"], LONG, now=1.0) == "b"
    made.publish("a", stats(0.0, 3), now=5.0)
    made.publish("b", stats(0.0, 3), now=5.0)
    cold = made.predicted_s("b", tokens(5_120), now=5.0)
    assert made.predicted_s("b", LONG, now=5.0) < cold / 2
    assert made.predicted_s("a", LONG, now=5.0) < cold / 2


def test_a_cached_prefix_counts_less_where_promises_were_not_kept() -> None:
    made = published(kept=0.0, broken=0.0)
    prompt_tokens = cached_tokens = 0.0
    for period in range(1, 41):
        for name in ("kept", "broken"):
            made.choose([name], LONG, now=period * PERIOD_S - 0.1)
        prompt_tokens += 5_120
        cached_tokens += 5_120
        seen = {"kept": cached_tokens, "broken": 0.0}
        for name, cached in seen.items():
            made.publish(
                name,
                stats(0.0, period + 1, prompt_tokens=prompt_tokens, cached_tokens=cached),
                now=period * PERIOD_S,
            )
    kept, broken = (made.predicted_s(n, LONG, now=30.0) for n in ("kept", "broken"))
    assert broken - kept > 0.4


def test_a_replica_that_restarted_under_its_name_has_nothing_cached() -> None:
    made = published(a=0.0)
    made.publish("a", stats(0.0, 7), now=0.0)
    made.choose(["a"], LONG, now=0.0)
    made.publish("a", stats(0.0, 8), now=1.0)
    assert made.predicted_s("a", LONG, now=1.0) < 0.2
    made.publish("a", stats(0.0, 1), now=2.0)
    assert made.predicted_s("a", LONG, now=2.0) > 0.5


def test_what_a_replica_s_kv_cache_cannot_hold_is_not_promised() -> None:
    made = published(a=0.0)
    made.choose(["a"], LONG, now=0.0)
    made.publish("a", stats(0.0, 2, kv_tokens=5_120), now=1.0)
    assert made.predicted_s("a", LONG, now=1.0) < 0.2
    made.publish("a", stats(0.0, 3, kv_tokens=512), now=2.0)
    assert made.predicted_s("a", LONG, now=2.0) > 0.45


def test_a_session_s_hint_counts_where_the_text_was_cut_and_agrees() -> None:
    cut = Prompt(80_000, (1, 2, 3), session=77)
    for prompt, best in ((cut, "a"), (Prompt(80_000, (1, 2, 3)), "b")):
        made = published(a=0.0, b=0.0)
        made.choose(["a"], cut, now=0.0)
        made.choose(["b"], text(1, 2, 3), now=0.0)
        made.publish("a", stats(0.3 + PERIOD_S, 2), now=4.0)
        made.publish("b", stats(0.0, 2), now=4.0)
        assert made.choose(["a", "b"], prompt, now=4.0) == best


def test_of_a_prompt_that_could_not_be_read_a_session_promises_nothing() -> None:
    made = published(a=0.0)
    unread = Prompt(80_000, session=77)
    assert [made.place(["a"], unread, now=0.0).cached_tokens for _ in range(2)] == [0, 0]


def test_a_session_s_hint_is_not_believed_against_the_text() -> None:
    made = published(a=0.0, b=0.0)
    made.choose(["a"], Prompt(80_000, (1, 2, 3), session=77), now=0.0)
    made.publish("a", stats(0.3 + PERIOD_S, 2), now=9.0)
    made.publish("b", stats(0.0, 2), now=9.0)
    assert made.choose(["a", "b"], Prompt(80_000, (1, 8, 9), session=77), now=9.0) == "b"


def test_turns_of_a_conversation_meet_again_through_any_router() -> None:
    names = [f"r{n}" for n in range(8)]
    for home in range(1, 20):
        picks = set()
        for seed in range(4):
            made = RoutingPolicy(PERIOD_S, Random(seed).random, routers=4)
            order = Random(seed).sample(names, len(names))
            for name in order:
                made.publish(name, IDLE, now=0.0)
            picks.add(made.choose(order, Prompt(4_000, home=home), now=0.0))
        assert len(picks) == 1


@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 5_000)), min_size=1, max_size=40),
    st.integers(1, 4),
)
def test_nothing_goes_where_it_would_wait_for_a_minute_and_all_stays_sound(
    sends: list[tuple[float, int]], prefix: int
) -> None:
    made = published(a=0.2, b=0.0, c=0.1)
    now = 0.0
    for number, (gap, count) in enumerate(sends):
        now += gap
        made.publish("far", stats(60.0, number + 1), now)
        prompt = text(*range(1, count % 9), *(prefix * 100 + n for n in range(count % 7)))
        if now < 4.0:  # then the others have been silent for too long
            assert made.choose(["a", "b", "c", "far"], prompt, now) != "far"
        made.check_integrity()


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["send", "drain", "die", "up"])),
        max_size=60,
    ),
    st.integers(1, 3),
)
def test_a_draining_or_silent_replica_gets_nothing_new_not_even_its_own_conversations(
    events: list[tuple[str, str]], routers: int
) -> None:
    made = policy(routers)
    idle(made, "abcd", 0.0)
    draining: set[str] = set()
    dead: set[str] = set()
    for number, (name, event) in enumerate(events):
        now = 10.0 * (number + 1)  # longer than a silent replica is waited for
        draining = draining | {name} if event == "drain" else draining
        dead = dead | {name} if event == "die" else dead
        if event == "up":
            draining, dead = draining - {name}, dead - {name}
        for each in set("abcd") - dead:
            made.publish(each, stats(0.0, number + 2, draining=each in draining), now)
        if event == "send":
            for turn in range(12):  # three of each of four conversations
                chosen = made.choose([*"abcd"], chat(1 + turn // 4, 1 + turn % 4), now)
                assert chosen not in draining | dead or draining | dead == set("abcd")
        made.check_integrity()


def chat(turn: int, name: int, *, chunks: int = 6) -> Prompt:
    """A turn of a conversation that begins with instructions of so many chunks."""
    parts = [*range(1, chunks + 1), *(1_000 * name + k for k in range(turn))]
    return Prompt(SMALL_CHUNK * len(parts) + 100, tuple(parts), home=name)


def test_a_conversation_stays_where_its_last_turn_was_while_that_costs_little() -> None:
    made = published(a=0.0, b=0.0, c=0.0)
    first = made.choose(["a", "b", "c"], chat(1, 5), now=0.0)
    others = [name for name in "abc" if name != first]
    for turn in range(2, 8):
        now = 3.0 * turn
        idle(made, "abc", now)
        for k, name in enumerate("abc"):  # with the conversation's own turns it gets the most
            made.choose([name], chat(1, 100 * turn + k), now)
        assert made.choose([*others, first], chat(turn, 5), now) == first


def test_a_conversation_stays_also_in_a_flood_where_it_waits_longer() -> None:
    made = published(a=0.0, b=0.0)
    first = made.choose(["a", "b"], chat(1, 5), now=0.0)
    other = "b" if first == "a" else "a"
    for k in range(400):  # 20 seconds of work for each, in two
        now = k / 200
        made.choose(["ab"[k % 2]], tokens(1_000), now)
    made.publish(first, stats(1.5, 2), now=2.0)
    made.publish(other, stats(0.5, 2), now=2.0)
    assert made.choose(["a", "b"], chat(2, 5), now=2.0) == first


def test_a_conversation_leaves_a_replica_that_would_keep_it_waiting_long() -> None:
    made = published(a=0.0, b=0.0)
    first = made.choose(["a", "b"], chat(1, 5), now=0.0)
    other = "b" if first == "a" else "a"
    made.publish(first, stats(30.0, 2), now=3.0)
    made.publish(other, stats(0.0, 2), now=3.0)
    assert made.choose(["a", "b"], chat(2, 5), now=3.0) == other


def test_a_hot_prefix_goes_to_more_replicas_before_one_has_much_more_than_its_share() -> None:
    made = published(**dict.fromkeys("abcdefgh", 0.0))
    picks: Counter[str] = Counter()
    for number in range(1, 801):
        now = number / 20
        if number % 10 == 0:
            idle(made, "abcdefgh", now)
        picks[made.choose([*"abcdefgh"], chat(1, number), now)] += 1
    assert max(picks.values()) <= 1.3 * 100


def test_routers_that_see_the_same_stale_stats_do_not_run_to_the_same_replica() -> None:
    names = [f"r{n}" for n in range(8)]
    all_routers = [RoutingPolicy(PERIOD_S, Random(n).random, routers=4) for n in range(4)]
    for made in all_routers:
        for name in names:
            made.publish(name, stats(0.0 if name == "r3" else 0.4 + PERIOD_S), now=0.0)
    picks: Counter[str] = Counter()
    for number in range(400):
        made = all_routers[number % 4]
        picks[made.choose(names, chat(1, number + 1, chunks=2), now=0.01 * number / 10)] += 1
    assert picks["r3"] < 0.5 * 400


def test_replicas_that_are_gone_are_forgotten() -> None:
    made = published(a=1.0, b=1.0)
    made.choose(["a"], LONG, now=0.0)
    made.retain(["b"])
    assert repr(made) == "<RoutingPolicy waits {'b': 1.5}, <PrefixIndex 0 chunks, bytes {}>>"
    made.check_integrity()
