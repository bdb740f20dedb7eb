"""Where the KV cache, the promised pace or long answers bind: what users get, in virtual time.

The cache of `KV` holds 40 requests of 1,000 + 300 tokens, and there are 256 slots, so slots never
bind: as on a GPU with vLLM's default of 1,024.
"""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import count
from statistics import mean

import pytest
from one_replica import DEMO, Ask, Fate, OneReplica, capacity, p, poisson

from forebay.engine_model import EngineProfile, StepTime
from forebay.policies.admission import AdmissionController
from forebay.policies.request import BATCH, INTERACTIVE, Sequence, Ticket, prompt_chunks

LARGE, SMALL = (1000, 300), (200, 40)  # tokens of prompt and answer
STEPS = StepTime(base=8e-3, prefill_token=20e-6, decode_sequence=0.1e-3)
SLOTS = replace(DEMO, step_time=STEPS)
KV = replace(SLOTS, max_num_seqs=256, kv_blocks=40 * sum(LARGE) // 32 + 1)
PACED = replace(SLOTS, max_num_seqs=512, kv_blocks=200_000, max_model_len=32_768)


def good(fates: list[Fate]) -> float:
    return sum(fate.good for fate in fates) / len(fates)


def of(fates: list[Fate], tenant: str, since: float = 0.0) -> list[Fate]:
    return [f for f in fates if f.ask.tenant == tenant and f.ask.at >= since]


def test_a_full_cache_is_waited_for_within_the_budget_and_kept_busy() -> None:
    replica, rate = OneReplica(profile=KV), capacity(*LARGE, KV)
    start = replica.now
    fates = replica.run(poisson(2 * rate, 30, *LARGE, start=start))[20:]
    let_in = [fate for fate in fates if fate.ticket is not None]
    assert good(let_in) == 1.0
    assert len(let_in) >= 0.9 * rate * 28


class OwnChunks(OneReplica):
    """As with prefix caching on, where no prompt begins as another does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        took, numbers = self.core.took, count(1)

        def with_chunks(ticket: Ticket, prompt: int, cap: int, now: float) -> Sequence:
            first = next(numbers) * 10**6
            return took(ticket, prompt, cap, now, prompt_chunks(range(first, first + prompt), 0))

        self.core.took = with_chunks  # type: ignore[assignment, method-assign]


@pytest.mark.parametrize("kind", [pytest.param(OneReplica, marks=pytest.mark.slow), OwnChunks])
def test_where_the_cache_binds_a_modest_tenant_keeps_what_it_had(kind: type[OneReplica]) -> None:
    replica, rate = kind(profile=KV), capacity(*LARGE, KV)
    start = replica.now
    modest = poisson(0.2 * rate, 40, *LARGE, start=start, seed=1, tenant="modest")
    flood = poisson(8 * rate, 40, *LARGE, start=start, seed=2, tenant="greedy")
    fates = replica.run([*modest, *flood])
    assert good(of(fates, "modest")) >= 0.97
    greedy = [f for f in of(fates, "greedy") if f.ticket is not None]
    assert len(greedy) >= 0.6 * rate * 40


def test_where_the_cache_binds_no_interactive_request_is_refused_for_batch() -> None:
    rate, seconds = 0.3 * capacity(*SMALL, KV), 30
    alone, beside = OneReplica(profile=KV), OneReplica(profile=KV)
    start = beside.now
    usual = poisson(rate, seconds, *SMALL, start=start, seed=1)
    flood = poisson(25, seconds, *LARGE, start=start, seed=2, class_name=BATCH)
    without = alone.run(usual)
    fates = beside.run([*usual, *flood], until=start + seconds)
    interactive = [fate for fate in fates if fate.ask.class_name == INTERACTIVE]
    assert not any(fate.shed for fate in interactive)
    assert p(interactive, 95) <= 1.3 * p(without, 95)
    assert sum(f.ended_at is not None for f in fates if f not in interactive) >= 50


def test_many_small_tenants_of_a_class_cost_a_large_one_nothing() -> None:
    replica, rate, rng = OneReplica(profile=KV), capacity(*LARGE, KV), random.Random(3)
    start = replica.now
    asks = poisson(0.6 * rate, 30, *LARGE, start=start, seed=1, tenant="large")
    asks += poisson(8, 30, *LARGE, start=start, seed=2, tenant="night", class_name=BATCH)
    small = poisson(1.5, 30, *SMALL, start=start, seed=4)
    asks += [replace(ask, tenant=f"small {rng.randrange(30)}") for ask in small]
    assert good(of(replica.run(asks, until=start + 30), "large")) >= 0.97


def test_long_prompts_with_short_answers_leave_room_for_who_stays_longer() -> None:
    cache = replace(SLOTS, max_num_seqs=256, kv_blocks=200_000 // 32, max_model_len=8_192)
    replica = OneReplica(profile=cache)
    start = replica.now
    asks = poisson(5, 45, 200, 800, start=start, seed=1, tenant="chat")
    asks += poisson(6, 45, 4_000, 20, start=start, seed=2, tenant="documents")
    assert good(of(replica.run(asks, until=start + 45), "chat")) >= 0.9


def test_what_is_never_let_in_makes_no_room_smaller() -> None:
    replica = OneReplica(profile=KV)
    start = replica.now
    asks = poisson(40, 30, 60, 100, start=start, seed=1, class_name=BATCH)
    asks += poisson(2, 30, 60_000, 20, start=start, seed=2, tenant="hopeless")
    fates = replica.run(asks, until=start + 30)
    assert good([fate for fate in fates if fate.ask.class_name == BATCH]) >= 0.95


def test_a_burst_of_answers_that_will_grow_keeps_the_promised_pace() -> None:
    steps = replace(STEPS, base=5e-3, prefill_token=5e-6, context_token=0.2e-6)
    replica = OneReplica(profile=replace(PACED, step_time=steps), tpot_s=0.03)
    replica.run(poisson(1, 120, 100, 1_500, start=replica.now, seed=1))
    fates = replica.run(poisson(60, 5, 100, 1_500, start=replica.now, seed=2))
    tpots = [(f.ended_at - f.first_at) / 1_499 for f in fates if f.ended_at and f.first_at]
    assert len(tpots) >= 80
    assert sum(tpot > 0.03 for tpot in tpots) <= 0.05 * len(tpots)


# Of the cache, what answers will take by their ends is kept for them: half of that on the way.
@pytest.mark.parametrize(("profile", "least"), [(SLOTS, 0.75), (KV, 0.45)], ids=["slots", "cache"])
def test_long_answers_keep_nobody_out_and_short_ones_nothing_idle(
    profile: EngineProfile, least: float
) -> None:
    used: list[float] = []

    def look(admission: AdmissionController) -> None:
        config, ledger = admission.config, admission.ledger
        used.append(max(len(ledger.running) / config.slots, ledger.kv_held / config.kv_tokens))

    replica = OneReplica(profile=profile)
    start = replica.now
    asks = poisson(3, 45, 100, 40, start=start, seed=1, tenant="short", max_tokens=None)
    asks += poisson(30, 45, 100, 900, start=start, seed=2, tenant="long", max_tokens=None)
    replica.run([ask for ask in asks if ask.at < start + 25], until=start + 25)
    replica.check = look
    fates = replica.run([ask for ask in asks if ask.at >= start + 25], until=start + 45)
    assert good(of(fates, "short")) >= 0.97
    assert mean(used) >= least


def test_as_many_tenants_as_have_one_request_each_still_keep_the_promised_pace() -> None:
    over: list[float] = []
    profile = replace(PACED, step_time=replace(STEPS, base=5e-3, decode_sequence=0.5e-3))
    replica, rng = OneReplica(profile=profile, tpot_s=0.03), random.Random(4)  # 50 at once
    asks = poisson(40, 80, 100, 200, start=replica.now, seed=4)
    asks = [Ask(a.at, 100, 200, tenant=f"{rng.randrange(200)}") for a in asks]
    settled, end = replica.now + 20, replica.now + 80
    replica.run([ask for ask in asks if ask.at < settled], until=settled)
    replica.check = lambda one: over.append(one.ledger.in_engine / one.room.pace.sequences)
    replica.run([ask for ask in asks if ask.at >= settled], until=end)
    assert mean(over) <= 1.02


def test_when_contexts_become_short_more_are_let_in_at_once() -> None:
    steps = replace(STEPS, base=5e-3, prefill_token=5e-6, context_token=0.2e-6)
    replica = OneReplica(profile=replace(PACED, step_time=steps), tpot_s=0.03)
    start = replica.now
    long = poisson(10, 30, 20_000, 200, start=start, seed=1)
    short = poisson(60, 10, 200, 200, start=start + 30, seed=2)
    fates = replica.run([*long, *short])
    let_in = [fate for fate in fates if fate.ask.prompt == 200 and fate.ticket is not None]
    assert len(let_in) >= 100  # some 150 are what the engine makes at that pace
    tpots = [(f.ended_at - f.first_at) / 199 for f in let_in if f.ended_at and f.first_at]
    assert sum(tpot > 0.03 for tpot in tpots) <= 0.05 * len(tpots)
