from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.load.arrivals import Stage, poisson_arrivals
from forebay.load.prompts import PromptMaker, plain_ids


def maker(seed: int = 0, **options: object) -> PromptMaker:
    return PromptMaker(np.random.default_rng(seed), **options)  # type: ignore[arg-type]


@given(st.integers(1, 300), st.integers(0, 5))
def test_prompts_have_the_exact_length_and_known_ids(length: int, seed: int) -> None:
    prompt = maker(seed, ids=[7, 8, 9]).tokens(length)
    assert len(prompt) == length
    assert set(prompt) <= {7, 8, 9}


def test_no_prompt_begins_like_another() -> None:
    prompts = maker()
    assert len({tuple(prompts.tokens(50)[:3]) for _ in range(5000)}) == 5000


def test_short_prompts_run_out_instead_of_repeating() -> None:
    prompts = maker(ids=[1, 2, 3])
    assert len({tuple(prompts.tokens(2)) for _ in range(9)}) == 9
    with pytest.raises(ValueError, match="no unused prompt"):
        prompts.tokens(2)


def test_prompts_follow_their_seed() -> None:
    assert maker(1).tokens(20) == maker(1).tokens(20) != maker(2).tokens(20)


@given(st.integers(2, 200))
def test_text_has_about_the_bytes_asked_for(length: int) -> None:
    assert len(maker().text(length).encode()) == length * 4


def test_texts_differ_from_their_first_word() -> None:
    prompts = maker()
    assert len({prompts.text(20).split()[0] for _ in range(100)}) == 100


@pytest.mark.parametrize("length", [0, -1])
def test_a_prompt_of_nothing_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="prompt"):
        maker().tokens(length)
    with pytest.raises(ValueError, match="prompt"):
        maker().text(length)


def test_unusable_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="unusable"):
        maker(ids=[5])


def test_plain_ids_leave_special_tokens_out(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    content = {"model": {"vocab": {"<s>": 0, "a": 2, "b": 1}}, "added_tokens": [{"id": 0}]}
    file.write_text(json.dumps(content))
    assert plain_ids(file) == [1, 2]


@pytest.mark.parametrize("content", ["", "[]", '{"model": 3}'])
def test_what_is_no_tokenizer_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"not a tokenizer\.json"):
        plain_ids(file)


def test_arrivals_fill_their_stages_in_order() -> None:
    stages = [Stage(20, 5), Stage(0, 5), Stage(200, 5)]
    times = poisson_arrivals(stages, np.random.default_rng(0))
    assert np.all(np.diff(times) >= 0)
    counts, _ = np.histogram(times, [0, 5, 10, 15])
    assert counts.sum() == len(times)
    assert counts[1] == 0
    assert abs(counts[0] - 100) < 50  # five standard deviations
    assert abs(counts[2] - 1000) < 160


def test_counts_are_as_random_as_poissons() -> None:
    rng = np.random.default_rng(1)
    counts = [len(poisson_arrivals([Stage(50, 1)], rng)) for _ in range(3000)]
    assert 0.9 < np.var(counts) / np.mean(counts) < 1.1


@pytest.mark.parametrize(("rate", "seconds"), [(-1, 1), (1, 0), (float("nan"), 1)])
def test_impossible_stages_are_refused(rate: float, seconds: float) -> None:
    with pytest.raises(ValueError, match="stage"):
        Stage(rate, seconds)
