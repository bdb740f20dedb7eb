"""Fair queueing, played against an engine that serves the smallest tag first, as vLLM does."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.policies.fairness import UNITS, FairQueue

CLASSES = {"interactive": 8.0, "batch": 1.0}
Flow = tuple[str, str]  # tenant, class


class Engine:
    """One request at a time, smallest tag first, equal tags by arrival."""

    def __init__(self, queue: FairQueue) -> None:
        self.queue = queue
        self.waiting: list[tuple[int, int, Flow, int]] = []
        self.served: list[tuple[Flow, int]] = []
        self.last_tag: dict[Flow, int] = {}
        self._arrivals = count()

    def send(self, flow: Flow, tokens: int) -> int:
        tag = self.queue.tag(*flow, tokens, now=0.0)
        assert tag >= self.last_tag.get(flow, 0), "a tag went down within its flow"
        assert tag >= self.queue.virtual_time, "a tag lies in the past"
        self.last_tag[flow] = tag
        heapq.heappush(self.waiting, (tag, next(self._arrivals), flow, tokens))
        return tag

    def serve(self) -> Flow:
        tag, _, flow, tokens = heapq.heappop(self.waiting)
        before = self.queue.virtual_time
        self.queue.started(tag)
        assert self.queue.virtual_time >= before
        self.queue.check_integrity()
        self.served.append((flow, tokens))
        return flow

    def totals(self, since: int = 0) -> Counter[Flow]:
        totals: Counter[Flow] = Counter()
        for flow, tokens in self.served[since:]:
            totals[flow] += tokens
        return totals


def keep_busy(engine: Engine, flows: list[Flow], sizes: Callable[[Flow], int], rounds: int) -> None:
    """Serve `rounds` requests while two of each flow wait at any time."""
    for flow in flows * 2:
        engine.send(flow, sizes(flow))
    for _ in range(rounds):
        served = engine.serve()
        engine.send(served, sizes(served))


def widest_gap(engine: Engine, a: Flow, b: Flow, rates: Mapping[Flow, float], since: int) -> float:
    """Largest |W_a/r_a - W_b/r_b| over all intervals after `since`, in tokens per weight."""
    level = low = high = Fraction(0)
    for flow, tokens in engine.served[since:]:
        if flow in (a, b):
            level += Fraction(tokens) / Fraction(rates[flow]) * (1 if flow == a else -1)
        low, high = min(low, level), max(high, level)
    return float(high - low)


weights = st.dictionaries(
    st.sampled_from("abcd"), st.sampled_from([0.5, 1.0, 2.0, 3.7]), min_size=2, max_size=4
)


@given(weights=weights, data=st.data(), late=st.booleans())
@settings(max_examples=40, deadline=None)
def test_tenants_that_wait_share_by_weight_within_one_request_of_each(
    weights: dict[str, float], data: st.DataObject, late: bool
) -> None:
    """The bound of start-time fair queueing, also while others come."""
    engine = Engine(FairQueue(CLASSES, weights))
    draw = data.draw(st.randoms(use_true_random=False))
    flows = [(tenant, "interactive") for tenant in weights]
    first = flows[:2] if late else flows
    keep_busy(engine, first, lambda _: draw.randint(1, 3000), 40)
    for flow in [*flows[len(first) :]] * 2 + [("x", "batch")] * 3:
        engine.send(flow, draw.randint(1, 3000))
    for _ in range(60):
        engine.send(engine.serve(), draw.randint(1, 3000))
    a, b = flows[:2]
    rates = {flow: weights[flow[0]] for flow in flows}
    bound = 3000 / rates[a] + 3000 / rates[b]
    assert widest_gap(engine, a, b, rates, since=0) <= bound + 1


@given(data=st.data(), batch_tenants=st.integers(1, 5), tenants=st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_classes_share_by_weight_however_many_tenants_each_has(
    data: st.DataObject, batch_tenants: int, tenants: int
) -> None:
    engine = Engine(FairQueue(CLASSES))
    draw = data.draw(st.randoms(use_true_random=False))
    flows = [(f"i{k}", "interactive") for k in range(tenants)]
    flows += [(f"b{k}", "batch") for k in range(batch_tenants)]
    for flow in flows * 2:
        engine.send(flow, draw.randint(100, 1000))
    settle = 10 * len(flows)
    for _ in range(settle + 600):
        engine.send(engine.serve(), draw.randint(100, 1000))
    shares: Counter[str] = Counter()
    for (_, class_name), tokens in engine.served[settle:]:
        shares[class_name] += tokens
    # Within one request of each tenant of each class.
    gap = abs(shares["interactive"] / 8 - shares["batch"])
    assert gap <= 1000 * (tenants / 8 + batch_tenants) * 1.1 + 1000 * (1 / 8 + 1)


def test_who_was_idle_has_saved_up_nothing() -> None:
    engine = Engine(FairQueue(CLASSES))
    keep_busy(engine, [("a", "batch")], lambda _: 100, 50)
    start = len(engine.served)
    keep_busy(engine, [("b", "batch")], lambda _: 100, 40)
    totals = engine.totals(start)
    assert abs(totals["a", "batch"] - totals["b", "batch"]) <= 200


def test_service_taken_while_alone_is_not_held_against_a_tenant() -> None:
    queue = FairQueue(CLASSES)
    for _ in range(50):  # one after the other, nobody else there
        queue.started(queue.tag("a", "batch", 1000, 0.0))
    assert queue.tag("b", "batch", 10, 0.0) <= queue.tag("a", "batch", 10, 0.0)
    assert queue.tag("a", "batch", 10, 0.0) - queue.virtual_time <= 1010 * UNITS * 2


def test_a_light_tenant_does_not_wait_behind_the_backlog_of_a_heavy_one() -> None:
    engine = Engine(FairQueue(CLASSES))
    for _ in range(200):
        engine.send(("heavy", "interactive"), 500)
    engine.serve()
    engine.send(("light", "interactive"), 500)
    assert ("light", "interactive") in [engine.serve() for _ in range(2)]


def test_interactive_goes_before_a_backlog_of_batch_and_batch_is_not_starved() -> None:
    engine = Engine(FairQueue(CLASSES))
    for _ in range(40):
        engine.send(("b", "batch"), 100)
    engine.serve()
    keep_busy(engine, [("i", "interactive")], lambda _: 100, 45)
    order = [class_name for (_, class_name), _ in engine.served[1:]]
    assert order[0] == "interactive"
    assert order.count("batch") == pytest.approx(5, abs=1)


def test_what_was_really_used_counts_not_what_was_estimated() -> None:
    engine = Engine(FairQueue(CLASSES))
    liar, honest = ("liar", "batch"), ("honest", "batch")
    used: Counter[Flow] = Counter()
    for flow in (liar, honest) * 2:
        engine.send(flow, 100)
    for _ in range(300):
        flow = engine.serve()
        actual = 400 if flow == liar else 50
        used[flow] += actual
        engine.queue.correct(*flow, actual - 100, now=0.0)
        engine.send(flow, 100)
    assert abs(used[liar] - used[honest]) <= 2 * (400 + 50)  # two of each were tagged at first


def test_tokens_given_back_are_no_credit() -> None:
    queue = FairQueue(CLASSES)
    first = queue.tag("a", "batch", 100, 0.0)
    second = queue.tag("a", "batch", 100, 0.0)
    queue.correct("a", "batch", -1e9, 0.0)
    queue.correct("nobody", "batch", -1e9, 0.0)
    assert queue.tag("a", "batch", 100, 0.0) >= second > first
    queue.started(second)
    assert queue.tag("nobody", "batch", 100, 0.0) >= queue.virtual_time


def test_the_tags_of_years_fit_63_bits() -> None:
    queue = FairQueue({"interactive": 1000.0, "batch": 1.0})
    year = 365 * 86400
    tag = 0
    for _ in range(15):  # a million tokens a second of the lightest class
        tag = queue.tag("a", "batch", 10**6 * year, 0.0)
    assert tag < 2**63
    queue.started(tag)
    small = [queue.tag("a", "batch", 1, 0.0) for _ in range(3)]
    assert small[2] - small[1] == UNITS, "a token is no longer told apart"


def test_a_class_that_never_ran_begins_at_the_present() -> None:
    queue = FairQueue(CLASSES)
    for _ in range(5):
        queue.started(queue.tag("a", "interactive", 10_000, 0.0))
    assert queue.tag("b", "batch", 10, 0.0) == queue.virtual_time


def test_virtual_time_does_not_go_back_when_the_engine_starts_out_of_order() -> None:
    queue = FairQueue(CLASSES)
    first, second = (queue.tag("a", "batch", 100, 0.0) for _ in range(2))
    queue.started(second)  # vLLM passes over a prompt whose KV blocks are not free
    queue.started(first)
    assert queue.virtual_time == second > first


def test_a_newcomer_never_lies_in_the_past_by_rounding() -> None:
    for seed in range(20):
        rng = random.Random(seed)
        engine = Engine(FairQueue(CLASSES, {"a": 0.5, "b": 3.7}))
        flows = [("a", "interactive"), ("b", "interactive")]
        keep_busy(engine, flows, lambda _, rng=rng: rng.randint(1, 3000), 20)  # type: ignore[misc]
        for k in range(20):
            engine.send((f"new-{k}", "interactive"), rng.randint(1, 3000))  # checks its tag
            engine.serve()


def test_memory_is_that_of_the_tenants_that_wait() -> None:
    queue = FairQueue(CLASSES)
    for k in range(100):
        queue.started(queue.tag(f"t{k}", "batch", 100, 0.0))
        queue.tag("steady", "batch", 100, 0.0)
    queue.started(queue.tag("steady", "batch", 100, 0.0))
    queue.tag("steady", "batch", 100, 0.0)
    assert "'batch': 1}" in repr(queue), "a flow that was passed is remembered"
    queue.tag("gone", "batch", 10**9, 1.0)
    queue.tag("steady", "batch", 100, 1000.0)
    assert "'batch': 1}" in repr(queue), "a flow that was idle for long is remembered"


def test_an_empty_queue_settles_every_debt() -> None:
    queue = FairQueue(CLASSES)
    queue.started(queue.tag("a", "batch", 100, 0.0))
    queue.correct("a", "batch", 1e6, 0.0)
    queue.nothing_waits()
    assert queue.tag("a", "batch", 1, 0.0) == queue.virtual_time == queue.tag("b", "batch", 1, 0.0)


def test_what_many_took_while_nobody_waited_is_not_held_against_their_class() -> None:
    engine = Engine(FairQueue(CLASSES))
    for k in range(200):
        engine.send((f"t{k}", "interactive"), 1000)
        engine.serve()
        engine.queue.nothing_waits()
    start = len(engine.served)
    keep_busy(engine, [("b", "batch"), ("i", "interactive")], lambda _: 100, 90)
    totals = engine.totals(start)
    assert totals["b", "batch"] == pytest.approx(1000, abs=200)


def test_service_elsewhere_holds_a_tenant_back_here_but_not_for_long() -> None:
    engine = Engine(FairQueue(CLASSES))
    flows = [("a", "batch"), ("b", "batch")]
    keep_busy(engine, flows, lambda _: 100, 20)
    start = len(engine.served)
    engine.queue.served_elsewhere("batch", {"b": 10**9}, most_tokens=2000, now=0.0)
    for _ in range(100):
        engine.send(engine.serve(), 100)
    totals = engine.totals(start)
    assert totals["a", "batch"] - totals["b", "batch"] == pytest.approx(2000, abs=400)


def test_the_same_history_gives_the_same_tags() -> None:
    def history() -> list[int]:
        engine = Engine(FairQueue(CLASSES, {"b": 0.3}))
        flows = [("a", "interactive"), ("b", "interactive"), ("c", "batch")]
        keep_busy(engine, flows, lambda flow: 70 + ord(flow[0][0]), 50)
        return sorted(entry[0] for entry in engine.waiting)

    assert history() == history()


def test_a_weight_that_changes_holds_from_the_next_tag() -> None:
    engine = Engine(FairQueue(CLASSES))
    flows = [("a", "batch"), ("b", "batch")]
    keep_busy(engine, flows, lambda _: 100, 40)
    engine.queue.set_weights({"a": 3.0})
    start = len(engine.served)
    for _ in range(200):
        engine.send(engine.serve(), 100)
    totals = engine.totals(start)
    assert totals["a", "batch"] / totals["b", "batch"] == pytest.approx(3.0, rel=0.1)
