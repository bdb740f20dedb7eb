"""Minutes of traffic through admission and the engine model, in virtual time: what users get.

Capacity is what the engine finishes when it never lacks requests. All figures are of an engine
with the limits of the profile `demo-cpu` and round step times (`one_replica.DEMO`), with a TTFT
budget of 1 s (interactive) and 30 s (batch).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from math import inf
from statistics import median

import pytest
from one_replica import CLASSES, DEMO, H100, Ask, Fate, OneReplica, capacity, p, poisson

from forebay.engine_model import EngineProfile
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


@pytest.mark.parametrize("size", SIZES)
def test_three_times_what_it_can_do_costs_a_replica_nothing(size: str) -> None:
    prompt, answer = SIZES[size]
    replica = OneReplica()
    rate = most(prompt, answer)
    fates = replica.run(poisson(3 * rate, 15, prompt, answer, start=replica.now))
    settled = after(fates, replica.fates[0].ask.at + 5)
    assert good(settled) >= 0.9 * rate * 10
    assert p(settled, 99) <= BUDGET_S
    assert p(settled, 50) <= 0.8 * BUDGET_S  # the margin is a fifth


def test_two_saturating_tenants_get_tokens_by_weight_and_in_time() -> None:
    replica = OneReplica(weights={"big": 3.0, "small": 1.0})
    start, rate = replica.now, 1.5 * most(*SHORT)
    asks = [
        ask
        for seed, tenant in enumerate(("big", "small"))
        for ask in poisson(rate, 20, *SHORT, start=start, seed=seed, tenant=tenant)
    ]
    fates = replica.run(asks)
    settled = [f for f in after(fates, start + 5) if f.ticket is not None]
    tokens = Counter(f.ask.tenant for f in settled)  # all are of one size
    assert tokens["big"] / tokens["small"] == pytest.approx(3.0, rel=0.1)
    for tenant in tokens:
        assert good(of(settled, tenant)) >= 0.97 * len(of(settled, tenant))


def test_a_modest_tenant_keeps_what_it_had_beside_one_that_floods() -> None:
    replica = OneReplica()
    start, rate = replica.now, most(*SHORT)
    modest = poisson(0.2 * rate, 15, *SHORT, start=start, seed=1, tenant="modest")
    flood = poisson(10 * rate, 15, *SHORT, start=start, seed=2, tenant="greedy")
    fates = replica.run([*modest, *flood])
    assert good(of(fates, "modest")) >= 0.97 * len(modest)
    greedy = [f for f in of(fates, "greedy") if f.ticket is not None]
    assert len(greedy) >= 0.7 * rate * 15  # nothing is kept back for the other
    assert good(greedy) >= 0.95 * len(greedy)


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


def test_a_modest_tenant_finds_slots_beside_one_that_would_fill_them_all_with_long_answers() -> (
    None
):
    replica = OneReplica()
    start, rate = replica.now, most(*SIZES["long outputs"])
    modest = poisson(0.2 * rate, 30, *SIZES["long outputs"], start=start, seed=1, tenant="modest")
    flood = poisson(8 * rate, 30, *SIZES["long outputs"], start=start, seed=2, tenant="greedy")
    fates = replica.run([*modest, *flood])
    settled = of(after(fates, start + 10), "modest")  # by then what came first has ended
    assert good(settled) >= 0.97 * len(settled)
    greedy = [f for f in of(after(fates, start + 10), "greedy") if f.ticket is not None]
    assert len(greedy) >= 0.6 * rate * 20


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


@pytest.mark.parametrize(
    ("size", "profile", "longer", "used"),
    [  # what it was in virtual time when it was chosen, and some room
        (SHORT, DEMO, 1.75, 0.8),
        (SIZES["long outputs"], DEMO, 1.65, 0.8),
        ((1442, 48), DEMO, 1.3, 0.87),
        ((1000, 100), H100, 1.4, 0.78),
    ],
)
def test_batch_uses_much_of_what_is_left_and_interactive_hardly_feels_it(
    size: tuple[int, int], profile: EngineProfile, longer: float, used: float
) -> None:
    rate, seconds = capacity(*size, profile), 40
    waits = []
    for with_batch in (False, True):
        replica = OneReplica(profile=profile)
        start = replica.now
        asks = poisson(0.4 * rate, seconds, *size, start=start, seed=1)
        if with_batch:
            asks += poisson(3 * rate, seconds, *size, start=start, seed=2, class_name=BATCH)
        replica.run(asks, until=start + seconds)
        interactive = after(of(replica.fates), start + 10)
        assert all(f.shed is None for f in interactive)
        waits.append(p(interactive, 95))
    batch = of(replica.fates, name=BATCH)
    ended = [f for f in batch if f.ended_at is not None and f.ended_at >= start + 10]
    assert len(ended) >= used * 0.6 * rate * (seconds - 10)
    assert waits[1] <= longer * waits[0]
    # Who was let in has its first token in time, or waits still for a while.
    assert all(f.good for f in batch if f.first_at is not None)
    assert all(
        f.first_at is not None or f.ask.at > start + seconds - CLASSES[BATCH].ttft_s
        for f in batch
        if f.ticket is not None
    )


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


def test_after_a_burst_waits_are_short_again_within_seconds() -> None:
    replica = OneReplica()
    start, rate = replica.now, most(*SHORT)
    burst = poisson(2 * rate, 20, *SHORT, start=start, seed=1)
    fates = replica.run([*burst, *poisson(0.7 * rate, 15, *SHORT, start=start + 20, seed=2)])
    assert p(fates, 99) <= BUDGET_S
    over = after(fates, start + 25)
    assert all(fate.shed is None for fate in over)
    assert p(over, 99) <= 0.1 * BUDGET_S


def test_a_prompt_fifty_times_as_long_hardly_delays_others_where_it_is_cut_up() -> None:
    ordinary = poisson(0.6 * most(*SHORT), 20, *SHORT, start=10.0)
    giants = [Ask(12.0 + 4 * k, 50 * SHORT[0], 48) for k in range(5)]
    waits = {}
    cut = DEMO.long_prefill_token_threshold
    for threshold in (0, cut):
        profile = replace(DEMO, max_model_len=16_384, long_prefill_token_threshold=threshold)
        for asks in ([], giants):
            fates = OneReplica(profile=profile).run([*ordinary, *asks])
            assert all(fate.good for fate in fates)
            waits[threshold, bool(asks)] = p([f for f in fates if f.ask.prompt == SHORT[0]], 99)
    assert waits[cut, True] <= 1.5 * waits[cut, False]
    assert waits[0, True] > 3 * waits[0, False]  # what it is good for


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
