"""What a step takes, learned from steps: of each part, and of contexts that grow."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.policies.forecast.step_law import StepLaw

# Near the profile `h100-8b`: seconds of a step, and of each answer, prompt token, token of context.
PARTS = BASE_S, ANSWER_S, TOKEN_S, CONTEXT_S = 6.6e-3, 35e-6, 24e-6, 49e-9
SHORT, LONG = 528, 12 * 528


def steps(
    count: int, context: Callable[[], float], rng: random.Random, parts: tuple[float, ...] = PARTS
) -> Iterator[tuple[int, int, float, float]]:
    """Answers, prompt tokens, seconds, context of so many steps of up to 250 answers."""
    base_s, answer_s, token_s, context_s = parts
    for _ in range(count):
        answers, tokens = rng.randrange(1, 250), rng.choice([0, 0, 200, 2048])
        attended = answers * context()
        seconds = base_s + answer_s * answers + token_s * tokens + context_s * attended
        yield answers, tokens, seconds, attended


def learn(law: StepLaw, seen: Iterator[tuple[int, int, float, float]], noise: float) -> None:
    """Steps of so much noise."""
    rng = random.Random(0)
    for answers, tokens, seconds, context in seen:
        law.add(answers, tokens, seconds * rng.uniform(1.0 - noise, 1.0 + noise), context)


def error(law: StepLaw, answers: int, context: float) -> float:
    """Of what the law says of such a step, as a share of what it takes."""
    truth = BASE_S + answers * (ANSWER_S + CONTEXT_S * context)
    return abs(law.seconds(answers, 0, answers * context) / truth - 1.0)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_each_part_is_told_from_the_others(noise: float) -> None:
    law, rng = StepLaw(), random.Random(1)
    learn(law, steps(3_000, lambda: rng.uniform(100, LONG), rng), noise)
    found = law.base_s, law.per_sequence_s, law.per_token_s, law.per_context_s
    assert found == pytest.approx(PARTS, rel=0.001 + noise)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_contexts_of_twelve_times_the_length_are_learned_in_seconds(noise: float) -> None:
    law, rng = StepLaw(), random.Random(2)
    learn(law, steps(6_000, lambda: SHORT, rng), noise)
    learn(law, steps(192, lambda: LONG, rng), noise)
    assert error(law, 250, LONG) <= 0.01 + 0.4 * noise
    assert error(law, 250, SHORT) <= 0.01 + 0.4 * noise  # and nothing was forgotten for it


@given(context=st.integers(1, 100_000), seed=st.integers(0, 1_000))
@settings(max_examples=30)
def test_while_contexts_are_alike_it_does_not_matter_whose_the_time_is(
    context: int, seed: int
) -> None:
    law, rng = StepLaw(), random.Random(seed)
    learn(law, steps(500, lambda: context, rng), 0.0)
    assert law.context == pytest.approx(context)
    assert error(law, 1, context) < 0.01
    assert error(law, 250, context) < 0.01


@pytest.mark.parametrize("absent", [1, 2, 3])
def test_what_takes_no_time_is_not_found_to_take_any(absent: int) -> None:
    parts = tuple(0.0 if part == absent else seconds for part, seconds in enumerate(PARTS))
    law, rng = StepLaw(), random.Random(3)
    learn(law, steps(2_000, lambda: rng.uniform(1, LONG), rng, parts), 0.1)
    found = law.base_s, law.per_sequence_s, law.per_token_s, law.per_context_s
    assert 0.0 <= found[absent] < 0.05 * PARTS[absent]
    assert found[0] == pytest.approx(BASE_S, rel=0.1)
