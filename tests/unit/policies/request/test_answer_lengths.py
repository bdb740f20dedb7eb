"""Answer lengths: censored answers teach that answers are long, not that they are short."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.request import CostModel, OutputModel, RequestShape


def taught(tokens: int, *, censored: bool, times: int = 400) -> OutputModel:
    model = OutputModel(64)
    for _ in range(times):
        teach(model, tokens, censored=censored)
    return model


def teach(model: OutputModel, tokens: int, *, censored: bool) -> None:
    model.passed(0, tokens)
    model.ended(tokens, natural=not censored)


def test_learns_the_length_of_answers_that_stop() -> None:
    assert taught(300, censored=False).expected_total(0, 4096) == pytest.approx(300, rel=0.25)


def test_answers_cut_by_a_limit_are_expected_to_reach_it_again() -> None:
    model = taught(48, censored=True)
    assert model.expected_total(0, 48) == pytest.approx(48, rel=0.05)


def test_before_any_answer_was_seen_answers_are_taken_to_run_on() -> None:
    assert OutputModel(256).expected_total(0, 10**5) == pytest.approx(1024, rel=0.2)
    assert OutputModel(256).expected_total(0, 100) > 90


def test_what_is_likely_has_no_caution_in_it_and_is_learned_alike() -> None:
    assert OutputModel(256).likely_total(10**5) == pytest.approx(256, rel=0.2)
    seen = taught(300, censored=False)
    assert seen.likely_total(4096) == pytest.approx(seen.expected_total(0, 4096), rel=0.02)


def test_answers_still_running_count_as_evidence() -> None:
    model = OutputModel(16)
    before = model.expected_total(100, 200)
    for _ in range(64):
        model.passed(0, 190)
    assert model.expected_total(100, 200) > before


@given(
    st.lists(st.tuples(st.integers(1, 5_000), st.booleans()), max_size=80),
    st.integers(0, 6_000),
    st.integers(1, 6_000),
)
def test_expectation_lies_between_what_was_produced_and_the_limit(
    seen: list[tuple[int, bool]], produced: int, cap: int
) -> None:
    model = OutputModel(64)
    for tokens, censored in seen:
        teach(model, tokens, censored=censored)
    assert 1 <= model.likely_total(cap) <= cap
    total = model.expected_total(produced, cap)
    assert total >= produced
    assert total <= max(cap, produced)
    if produced < cap:
        assert total > produced


@given(st.integers(1, 5_000), st.integers(1, 5_000))
def test_a_higher_limit_never_lowers_the_expectation(low: int, more: int) -> None:
    model = taught(200, censored=False, times=50)
    assert model.expected_total(0, low) <= model.expected_total(0, low + more) + 1e-6


@given(st.lists(st.integers(0, 900), max_size=12), st.integers(1, 300))
def test_side_by_side_is_the_same_as_token_by_token(starts: list[int], tokens: int) -> None:
    singly, together = OutputModel(256), OutputModel(256)
    for step in range(tokens):
        for start in starts:
            singly.passed(start + step, start + step + 1)
    together.passed_together((start, start + tokens) for start in starts)
    for produced in (0, 10, 200, 1000):
        expected = singly.expected_total(produced, 4096)
        assert together.expected_total(produced, 4096) == expected


def test_price_learns_bytes_per_token() -> None:
    costs = CostModel(4096, 64)
    for _ in range(300):
        costs.observe_prompt(prompt_bytes=1_000, tokens=500)
    assert costs.price(RequestShape(prompt_bytes=800, prompt_ids=0)).prefill_tokens == (
        pytest.approx(400, rel=0.05)
    )


def test_who_wants_no_answer_to_end_before_so_many_tokens_pays_for_those() -> None:
    costs = CostModel(4096, 64)
    costs.outputs = taught(20, censored=False)
    usual = costs.price(RequestShape(0, 100, samples=2, max_tokens=2_000))
    least = costs.price(RequestShape(0, 100, samples=2, max_tokens=2_000, least=1_500))
    endless = costs.price(RequestShape(0, 100, samples=2, least=10**6))
    assert usual.output_tokens < 100
    assert least.output_tokens == costs.likely(least).output_tokens == 3_000
    assert endless.tokens == endless.most_tokens == 2 * 4096
    assert costs.price(RequestShape(0, 100, generates=False, least=50)).output_tokens == 0


@given(
    st.integers(0, 50_000),
    st.integers(0, 5_000),
    st.integers(1, 5),
    st.integers(1, 5),
    st.one_of(st.none(), st.integers(1, 10**9)),
)
def test_prices_are_positive_and_within_the_context(
    text: int, ids: int, prompts: int, samples: int, cap: int | None
) -> None:
    cost = CostModel(4096, 64).price(RequestShape(text, ids, prompts, samples, cap))
    assert cost.sequences == prompts * samples
    assert cost.prefill_tokens >= 1
    assert 1 <= cost.output_cap <= 4096
    assert cost.output_tokens <= cost.sequences * cost.output_cap


def test_no_client_can_move_what_others_pay() -> None:
    costs = CostModel(131_072, 256)
    for _ in range(300):
        costs.observe_prompt(4_000, 1_000)
    for _ in range(50):
        costs.observe_prompt(18, 100_000)  # more tokens than there are bytes
    assert costs.bytes_per_token == pytest.approx(4.0, rel=0.05)
    costs.observe_prompt(4_000_000, 1_000_000)
    costs.observe_prompt(10_000_000, 100)
    assert costs.bytes_per_token == pytest.approx(4.0, rel=0.2)


def test_what_a_template_adds_to_short_prompts_is_learned() -> None:
    costs = CostModel(4_096, 64)
    for _ in range(300):
        costs.observe_prompt(20, 40)
    priced = costs.price(RequestShape(prompt_bytes=20, prompt_ids=0)).prefill_tokens
    assert priced == pytest.approx(40, rel=0.1)
