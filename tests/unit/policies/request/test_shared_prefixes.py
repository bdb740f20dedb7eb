"""What prompts in the engine have in common, whoever comes and goes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from admissions import admission_config
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.admission import AdmissionController
from forebay.policies.request import (
    CHUNK,
    INTERACTIVE,
    Admitted,
    Cost,
    CostModel,
    Sequence,
    SharedPrefixes,
    StepOutput,
    Ticket,
    prompt_chunks,
)

# Prompts that begin alike now and then: chunks of few kinds, and a tail.
prompts = st.builds(
    lambda kinds, tail: [kind for kind in kinds for _ in range(CHUNK)] + [9] * tail,
    st.lists(st.integers(0, 1), max_size=4),
    st.integers(1, CHUNK),
)
salts = st.sampled_from([None, "a", "b"])


def common(one: list[int], other: list[int]) -> int:
    """Chunks in which two prompts agree, but for the last token of each."""
    most = (min(len(one), len(other)) - 1) // CHUNK
    return next(
        (k for k in range(most) if one[: CHUNK * (k + 1)] != other[: CHUNK * (k + 1)]), most
    )


@given(prompts, prompts, salts, salts)
def test_equal_hashes_mean_equal_beginnings_under_one_salt(
    one: list[int], other: list[int], salt: str | None, other_salt: str | None
) -> None:
    mine, theirs = prompt_chunks(one, salt), prompt_chunks(other, other_salt)
    assert len(mine) == (len(one) - 1) // CHUNK
    alike = common(one, other) if salt == other_salt else 0
    assert mine[:alike] == theirs[:alike]
    assert not set(mine[alike:]) & set(theirs[alike:])


def test_a_short_prompt_is_not_looked_at() -> None:
    class Prompt(list[int]):
        def __getitem__(self, _: object) -> list[int]:  # type: ignore[override]
            raise AssertionError("read")

    assert prompt_chunks(Prompt([1] * CHUNK), None) == ()


@given(st.lists(st.tuples(st.booleans(), prompts), max_size=12))
def test_each_chunk_counts_once_for_as_long_as_anybody_holds_it(
    moves: list[tuple[bool, list[int]]],
) -> None:
    prefixes, inside = SharedPrefixes(), list[tuple[int, ...]]()
    for leaves, prompt in moves:
        if leaves and inside:
            prefixes.let_go(inside.pop(0))  # the first holder goes first, and leaves orphans
        else:
            inside.append(prompt_chunks(prompt, None))
            prefixes.hold(inside[-1])
        prefixes.check_integrity(inside)
        assert prefixes.tokens == CHUNK * len({chunk for chunks in inside for chunk in chunks})
        newcomer = prompt_chunks(prompt, None)
        there = [chunk for chunk in newcomer if any(chunk in chunks for chunks in inside)]
        assert prefixes.held(newcomer) == CHUNK * len(there)
        for chunks in inside:
            alone = [c for c in chunks if sum(c in others for others in inside) == 1]
            assert prefixes.alone(chunks) == CHUNK * len(alone)


def test_of_promised_tokens_as_many_are_expected_as_others_held_lately() -> None:
    prefixes = SharedPrefixes()
    assert prefixes.expected(6_000) == 0
    for _ in range(1_000):
        prefixes.entered(6_000, 5_888)
        prefixes.entered(0, 5_888)  # promised nothing: tells nothing
    assert prefixes.expected(6_000) == pytest.approx(5_888, abs=1)
    for _ in range(1_000):  # in the cache still, and nobody runs with it
        prefixes.entered(6_000, 0)
    assert prefixes.expected(6_000) < 60


# In admission

PREFIX = [1] * 6_000


def cost(sequences: int = 1, cached: int = 0) -> Cost:
    return Cost(sequences, sequences * 6_200 - cached, sequences * 100, 100, cached)


@pytest.fixture
def admission() -> AdmissionController:
    config = admission_config(kv_tokens=20_000, step_tokens=8_192)
    return AdmissionController(config, CostModel(8_192, 100), lambda: 0.0)


Begin = Callable[..., Ticket]


@pytest.fixture
def begin(admission: AdmissionController) -> Begin:
    """Admits a request and has its answers begin, all with `PREFIX` and 200 tokens of their own."""

    def begun(own: int, sequences: int = 1, cached: int = 0) -> Ticket:
        decision = admission.decide(cost(sequences, cached), INTERACTIVE, 0.0)
        assert isinstance(decision, Admitted)
        chunks = prompt_chunks([*PREFIX, *[own] * 200], None)
        for _ in range(sequences):
            sequence = admission.bind(decision.ticket, 6_200, 100, chunks)
            admission.observe_step([StepOutput(sequence, 1, cached=0)], 0.0, 0.0)
            admission.check_integrity()
        return decision.ticket

    return begun


SHARED = 23 * CHUNK  # of the 6,000 tokens
WHOLE = 6_200 + 88  # an answer of at most 100 tokens is expected to have 88
OWN = WHOLE - SHARED


def test_what_the_first_began_the_others_hold_when_it_has_ended(
    admission: AdmissionController, begin: Begin
) -> None:
    first, second = begin(own=2), begin(own=3)
    assert admission.ledger.kv_tokens == SHARED + 2 * OWN
    admission.close(first, 1.0)
    admission.check_integrity()
    assert admission.ledger.kv_tokens == SHARED + OWN
    admission.close(second, 1.0)
    assert admission.ledger.kv_tokens == 0


def test_answers_to_one_prompt_share_it(admission: AdmissionController, begin: Begin) -> None:
    begin(own=2, sequences=2)
    assert admission.ledger.kv_tokens == 24 * CHUNK + 2 * (WHOLE - 24 * CHUNK)
    assert admission.ledger.kv_held == 24 * CHUNK + 2 * (6_201 - 24 * CHUNK)
    assert admission.ledger.context == 2 * 6_201  # which each of them attends to all the same


def test_a_promise_of_cached_tokens_counts_less_once_others_are_seen_to_hold_them(
    admission: AdmissionController, begin: Begin
) -> None:
    assert admission.ledger.kv_beside(cost(cached=6_000)) == 6_300
    for own in range(100):
        begin(own=own + 2, cached=5_900)
    assert admission.ledger.kv_beside(cost(cached=6_000)) < 600
    assert admission.ledger.kv_beside(cost()) == 6_300
    ledger = admission.ledger
    there = ledger.kv_tokens
    decision = admission.decide(cost(cached=6_000), INTERACTIVE, 0.0)
    assert isinstance(decision, Admitted)
    assert ledger.kv_tokens - there == pytest.approx(ledger.kv_beside(cost(cached=6_000)), abs=1)
    admission.check_integrity()


def releases(admission: AdmissionController) -> float:
    """KV tokens that are expected to be free once all that run have ended."""
    return admission.waits._releases(cost(), kv=True).kv_tokens()[-1]


def test_an_answer_gives_back_only_what_it_holds_alone(
    admission: AdmissionController, begin: Begin
) -> None:
    alone = begin(own=2)
    assert releases(admission) == pytest.approx(WHOLE)
    begin(own=3)
    assert releases(admission) == pytest.approx(2 * OWN)
    admission.close(alone, 1.0)
    assert releases(admission) == pytest.approx(WHOLE)


def test_who_ends_twice_lets_go_once(admission: AdmissionController, begin: Begin) -> None:
    first, second = begin(own=2), begin(own=3)
    answers: list[Sequence] = first.sequences
    admission.end(answers[0], natural=True, now=1.0)
    admission.close(first, 1.0)
    admission.check_integrity()
    assert admission.ledger.prefixes.held(second.sequences[0].chunks) == 24 * CHUNK
