"""The built-in workloads: each can be played, and is what its `source` says it is."""

from __future__ import annotations

from functools import cache
from itertools import islice

import numpy as np
import pytest

from forebay.spec.workload import built_in_names, built_in_text, load_workload
from forebay.workload import OpenLoop, Request
from forebay.workload.kinds import sessions
from forebay.workload.prompts import total_tokens

MANY = 40_000  # sessions: the 99th percentile of so many lies within 2 % of its law's


def workload(name: str) -> OpenLoop:
    made = load_workload(name).make()
    assert isinstance(made, OpenLoop)
    return made


@cache
def turns(name: str, kind: str) -> list[Request]:
    """What the first turns of many sessions of a kind ask."""
    loop = workload(name)
    stream = islice(sessions(loop.kinds, loop.seed), MANY)
    return [session.turns[0] for session in stream if session.kind == kind]


@cache
def figure(name: str, kind: str, what: str) -> float:
    """A quantile such as `prompt p99`, or a mean, of a kind's lengths."""
    of, which = what.split()
    asked = turns(name, kind)
    values = [turn.prompt_tokens if of == "prompt" else turn.output_tokens for turn in asked]
    return float(np.mean(values) if which == "mean" else np.percentile(values, float(which[1:])))


def test_there_are_some() -> None:
    assert built_in_names() == ["batch", "chat", "code", "launch-spike", "rag"]


@pytest.mark.parametrize("name", built_in_names())
def test_each_is_described_has_sources_and_makes_a_schedule(name: str) -> None:
    spec = load_workload(name)
    assert spec.name == name
    assert spec.description.endswith(".")
    assert spec.source.endswith(".")
    schedule = workload(name).schedule()
    expected = workload(name).curve.requests
    assert len(schedule) == pytest.approx(expected, abs=6 * 2 * np.sqrt(expected))  # CV 2 at most
    assert all(turn.prompt_tokens < 40_000 for session in schedule for turn in session.turns)


CLAIMS = [
    ("chat", "chat", "prompt p50", 1020, "prompts p50 1,020"),
    ("chat", "chat", "prompt p99", 4142, "p99 4,142 tokens"),
    ("chat", "chat", "output p50", 129, "outputs p50 129"),
    ("chat", "chat", "output p99", 601, "p99 601"),
    ("launch-spike", "chat", "prompt p50", 1020, "as in the built-in workload chat"),
    ("launch-spike", "chat", "prompt p99", 4142, "as in the built-in workload chat"),
    ("launch-spike", "chat", "output p99", 601, "as in the built-in workload chat"),
    ("code", "code", "prompt p50", 1500, "prompts 1,500 tokens"),
    ("code", "code", "output p50", 13, "outputs 13"),
    ("batch", "batch", "output mean", 294, "outputs of 294 on average"),
    ("batch", "batch", "prompt p100", 1024, "outputs up to 1,024 tokens"),
    ("batch", "batch", "output p100", 1024, "outputs up to 1,024 tokens"),
    ("rag", "rag", "output p50", 129, "(p50 129)"),
    ("rag", "rag", "prompt p0", 300 + 4 * 512, "instructions of 300 tokens, 4 to 10"),
    ("rag", "rag", "prompt p100", 300 + 10 * 512, "instructions of 300 tokens, 4 to 10"),
]


@pytest.mark.parametrize(("name", "kind", "what", "claimed", "words"), CLAIMS)
def test_lengths_are_those_that_the_source_claims(
    name: str, kind: str, what: str, claimed: float, words: str
) -> None:
    assert words in " ".join(load_workload(name).source.split())
    assert figure(name, kind, what) == pytest.approx(claimed, rel=0.04)


def test_200_tokens_of_a_chat_prompt_are_a_system_prompt() -> None:
    assert "200 of the prompt tokens are a system prompt" in " ".join(built_in_text("chat").split())
    prefixes = {turn.segments[0] for turn in turns("chat", "chat")}
    assert len(prefixes) == 8
    assert all(prefix.shared and prefix.tokens == 200 for prefix in prefixes)


def test_a_third_of_codes_requests_are_abandoned_while_they_wait() -> None:
    left = [turn.cancel_after_s is not None for turn in turns("code", "code")]
    assert np.mean(left) == pytest.approx(0.30, abs=0.01)
    shares = [
        turn.segments[0].tokens / total_tokens(turn.segments) for turn in turns("code", "code")
    ]
    assert np.median(shares) > 0.5  # most of a prompt is the open file's head


def test_the_launch_grows_tenfold_within_a_minute_and_batch_work_goes_on() -> None:
    loop = workload("launch-spike")
    assert loop.curve.rate(np.array([0.0, 60.0, 119.999, 120.0, 359.999])) == pytest.approx(
        [1, 1, 10, 10, 2], rel=1e-3
    )
    kinds = np.array([session.kind for session in loop.schedule()])
    assert np.mean(kinds == "batch") == pytest.approx(0.1, abs=0.03)
