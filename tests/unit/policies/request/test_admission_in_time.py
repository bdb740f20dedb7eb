"""Minutes of traffic through admission and the engine model, in virtual time: what users get.

How much is served, in what time, and to whom, under each load: `tests/scenarios` has that.

Capacity is what the engine finishes when it never lacks requests. All figures are of an engine
with the limits of the profile `demo-cpu` and round step times (`one_replica.DEMO`), with a TTFT
budget of 1 s (interactive) and 30 s (batch).
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from math import inf
from statistics import median

import pytest
from admissions import CLASSES
from one_replica import DEMO, Ask, Fate, OneReplica, capacity, p, poisson

from forebay.policies.request import BATCH, INTERACTIVE

BUDGET_S = CLASSES[INTERACTIVE].ttft_s
SHORT = (182, 48)  # tokens of prompt and answer
SIZES = {"short": SHORT, "long prompts": (1442, 48), "long outputs": (60, 400)}


@cache
def most(prompt: int, answer: int) -> float:
    return capacity(prompt, answer)


def of(fates: list[Fate], tenant: str = "", name: str = INTERACTIVE) -> list[Fate]:
    return [f for f in fates if f.ask.tenant == tenant and f.ask.class_name == name]


def after(fates: list[Fate], moment: float) -> list[Fate]:
    return [fate for fate in fates if fate.ask.at >= moment]


def good(fates: list[Fate]) -> int:
    return sum(fate.good for fate in fates)


def test_who_leaves_before_the_first_token_takes_nothing_from_those_who_stay() -> None:
    served = {}
    for patience_s in (inf, 0.4):  # of a budget of 1 s: most of its prompts are computed in vain
        replica = OneReplica()
        start, size = replica.now, (1442, 1)
        rate = 1.5 * most(*size)
        staying = poisson(rate, 20, *size, start=start, seed=1, tenant="b")
        leaving = poisson(rate, 20, *size, start=start, seed=2, tenant="a", patience_s=patience_s)
        served[patience_s] = good(of(replica.run([*leaving, *staying]), "b"))
    assert served[0.4] >= 0.95 * served[inf]


def test_steps_from_which_batch_was_left_out_teach_what_a_step_costs() -> None:
    replica = OneReplica(batch_stretch=2.0)
    start, rate = replica.now, most(*SHORT)
    asks = poisson(0.4 * rate, 30, *SHORT, start=start, seed=1)
    asks += poisson(3 * rate, 30, *SHORT, start=start, seed=2, class_name=BATCH)
    replica.run(asks, until=start + 30)
    law, true = replica.admission.paces.law, DEMO.step_time
    assert law.base_s == pytest.approx(true.base, rel=0.1)
    assert law.per_token_s == pytest.approx(true.prefill_token, rel=0.1)
    assert law.answer_s(law.context) == pytest.approx(true.decode_sequence, rel=0.1)


def test_no_interactive_request_is_refused_for_batch() -> None:
    size, seconds = SIZES["long prompts"], 60  # batch waits for all of its budget from 30 s on
    replica = OneReplica()
    start, rate = replica.now, most(*size)
    asks = poisson(0.6 * rate, seconds, *size, start=start, seed=3)
    asks += poisson(3 * rate, seconds, *size, start=start, seed=4, class_name=BATCH)
    replica.run(asks, until=start + seconds)
    assert all(fate.shed is None for fate in of(replica.fates))
    begun = [f for f in of(replica.fates, name=BATCH) if f.ttft_s is not None]
    assert sum(f.good for f in begun) >= 0.99 * len(begun)


def test_what_interactive_requests_are_predicted_to_wait_has_little_of_batch_in_it() -> None:
    """It gives way to them but for the step that runs, in which it has parts of its prompts."""
    size, seconds = SIZES["long prompts"], 30
    replica = OneReplica()
    start, rate = replica.now, most(*size)
    asks = poisson(0.6 * rate, seconds, *size, start=start, seed=1)
    asks += poisson(3 * rate, seconds, *size, start=start, seed=2, class_name=BATCH)
    replica.run(asks, until=start + seconds)
    settled = [f for f in after(of(replica.fates), start + 10) if f.ticket and f.ttft_s]
    predicted = [f.ticket.predicted_s for f in settled if f.ticket]
    assert median(predicted) <= 1.3 * median(f.ttft_s for f in settled if f.ttft_s)


def test_batch_alone_has_the_engine_to_itself() -> None:
    for size in SIZES.values():
        replica = OneReplica()
        start, rate = replica.now, most(*size)
        flood = poisson(3 * rate, 20, *size, start=start, class_name=BATCH)
        fates = replica.run(flood, until=start + 20)
        ended = [f for f in fates if f.ended_at is not None and f.ended_at >= start + 5]
        assert len(ended) >= 0.9 * rate * 15  # one slot in eight is kept from it


@pytest.mark.slow
def test_batch_is_not_starved_while_interactive_requests_overload_the_engine() -> None:
    replica = OneReplica()
    start, rate = replica.now, most(*SHORT)
    asks = poisson(2 * rate, 40, *SHORT, start=start, seed=1)
    flood = poisson(2 * rate, 40, *SHORT, start=start, seed=2, class_name=BATCH)
    fates = replica.run([*asks, *flood])
    batch = [f for f in of(fates, name=BATCH) if f.ticket is not None]
    assert all(f.good for f in batch)
    share = len([f for f in batch if f.first_at and f.first_at < start + 40]) / (rate * 40)
    assert 0.05 <= share <= 0.2  # of weights 8 to 1


def test_a_thousand_requests_at_once_are_judged_one_by_one() -> None:
    replica = OneReplica()
    start = replica.now + 1.0
    fates = replica.run([Ask(start + k * 1e-6, *SHORT) for k in range(1000)])
    admitted = [fate for fate in fates if fate.ticket is not None]
    assert len(admitted) >= 0.5 * most(*SHORT) * BUDGET_S
    assert all(fate.good for fate in admitted)
    waits = [fate.shed.retry_after_s for fate in fates if fate.shed is not None]
    assert len(waits) + len(admitted) == 1000
    # Those who obey come back over a stretch of time, and not together.
    waits.sort()
    assert waits[-len(waits) // 10] >= 1.5 * waits[len(waits) // 10]


def test_answers_far_longer_than_learned_are_learned_before_they_do_harm() -> None:
    replica = OneReplica()
    start = replica.now
    short = poisson(0.5 * most(*SHORT), 10, *SHORT, start=start, max_tokens=None)
    longer = poisson(2 * most(60, 400), 40, 60, 400, start=start + 10, max_tokens=None)
    settled = after(replica.run([*short, *longer]), start + 25)
    assert good(settled) >= 0.8 * most(60, 400) * 25
    assert p(settled, 90) <= BUDGET_S


def test_an_engine_that_stands_still_lets_in_few_and_comes_back() -> None:
    start = 10.0
    replica = OneReplica(stalls=((start + 10, start + 14),))
    fates = replica.run(poisson(0.6 * most(*SHORT), 30, *SHORT, start=start))
    during = [f for f in fates if start + 11.5 <= f.ask.at < start + 14]
    assert sum(f.ticket is not None for f in during) <= 0.02 * len(during)
    back = after(fates, start + 19)
    assert good(back) == len(back)


def test_the_promised_pace_is_held_by_running_fewer_at_once() -> None:
    tpot_s = 5e-3  # with 25 at once, and none of them a prompt
    replica = OneReplica(tpot_s=tpot_s)
    start = replica.now
    fates = replica.run(poisson(30, 30, 60, 400, start=start))
    paces = [
        (f.ended_at - f.first_at) / 399
        for f in after(fates, start + 10)
        if f.ended_at is not None and f.first_at is not None
    ]
    assert sorted(paces)[len(paces) // 2] <= 1.1 * tpot_s
    assert len(paces) / 20 >= 0.7 * 25 / (400 * tpot_s)


def test_weights_hold_where_it_is_the_pace_that_bounds_how_many_run() -> None:
    replica = OneReplica(tpot_s=5e-3, weights={"big": 3.0, "small": 1.0})
    start = replica.now
    asks = [
        ask
        for seed, tenant in enumerate(("big", "small"))
        for ask in poisson(30, 40, 60, 400, start=start, seed=seed, tenant=tenant)
    ]
    settled = [f for f in after(replica.run(asks), start + 10) if f.ticket is not None]
    tokens = Counter(f.ask.tenant for f in settled)  # all are of one size
    assert tokens["big"] / tokens["small"] == pytest.approx(3.0, rel=0.15)


def test_a_modest_tenant_is_let_in_where_the_pace_bounds_how_many_run() -> None:
    replica = OneReplica(tpot_s=5e-3)
    start = replica.now
    modest = poisson(2, 40, 60, 400, start=start, seed=1, tenant="modest")
    flood = poisson(100, 40, 60, 400, start=start, seed=2, tenant="greedy")
    settled = of(after(replica.run([*modest, *flood]), start + 10), "modest")
    assert good(settled) >= 0.95 * len(settled)
