"""A workload as the options of a command change it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workload_texts import loaded, stages, with_kind, with_line, workloads

from forebay.spec.files import SpecError
from forebay.spec.workload import WorkloadSpec, changed, fixed_workload, load_workload
from forebay.workload import (
    ClosedLoop,
    Constant,
    Fixed,
    Gamma,
    Hold,
    Independent,
    LinearRamp,
    OpenLoop,
    Replay,
    Uniform,
)

CHAT = load_workload("chat")
SPIKE = load_workload("launch-spike")


def opened(spec: WorkloadSpec) -> OpenLoop:
    made = spec.make()
    assert isinstance(made, OpenLoop)
    return made


@given(workloads())
def test_without_options_nothing_changes(data: dict[str, Any]) -> None:
    spec = WorkloadSpec.model_validate(data)
    assert changed(spec) == spec


def test_rates_become_stages_each_as_long() -> None:
    found = opened(changed(SPIKE, rates=[5, 1 / 3], seconds=20))
    assert found.curve.pieces == (Hold(5, 20), Hold(1 / 3, 20))
    assert found.law == Gamma(2.0)
    assert found.kinds == opened(SPIKE).kinds
    assert opened(changed(CHAT, rates=[5])).curve.pieces == (Hold(5, 60),)


def test_a_ramp_is_one_stage() -> None:
    assert opened(changed(CHAT, ramp=(5, 80), seconds=30)).curve.pieces == (LinearRamp(5, 80, 30),)


def test_clients_make_a_closed_loop_and_back_again() -> None:
    closed = changed(SPIKE, clients=7, seconds=30)
    made = closed.make()
    assert isinstance(made, ClosedLoop)
    assert (made.clients, made.seconds) == (7, 30)
    assert made.kinds == opened(SPIKE).kinds
    assert opened(changed(closed, rates=[2])).curve.pieces == (Hold(2, 60),)
    longer = changed(closed, seconds=99).make()
    assert (made.clients, longer.seconds) == (7, 99)


@given(st.lists(stages(), min_size=1, max_size=3), st.floats(0.5, 2000))
def test_seconds_alone_stretch_every_stage_in_proportion(
    written: list[dict[str, Any]], seconds: float
) -> None:
    """A spike stays a spike: as many times the sessions as it is longer."""
    data = {"name": "w", "stages": written, "requests": [{"prompt": 1, "output": 1}]}
    spec = WorkloadSpec.model_validate(data)
    before, after = opened(spec).curve, opened(changed(spec, seconds=seconds)).curve
    factor = seconds / before.seconds
    assert after.seconds == pytest.approx(seconds)
    assert after.requests == pytest.approx(before.requests * factor, rel=1e-6, abs=1e-9)
    assert len(after.pieces) == len(before.pieces)
    for one, other in zip(before.pieces, after.pieces, strict=True):
        assert other.seconds == pytest.approx(one.seconds * factor, abs=1e-9 * seconds)


def test_a_trace_is_cut_to_so_many_seconds_of_the_run(tmp_path: Path) -> None:
    lines = [f'{{"at_s": {i}, "prompt_tokens": 5, "output_tokens": 5}}' for i in range(100)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    spec = loaded("name: w\ntrace: {file: t.jsonl, format: forebay, speed: 4}\n", tmp_path)
    made = changed(spec, seconds=10).make()
    assert isinstance(made, Replay)
    assert (made.seconds, len(made.recorded)) == (10, 40)


def test_a_trace_keeps_its_own_rates_and_lengths(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"at_s": 1, "prompt_tokens": 5, "output_tokens": 5}')
    spec = loaded("name: w\ntrace: {file: t.jsonl, format: forebay}\n", tmp_path)
    for option in ({"rates": [1]}, {"clients": 2}, {"ramp": (1, 2)}, {"prompt_tokens": 5}):
        with pytest.raises(SpecError, match="a trace has rates and lengths of its own; use speed"):
            changed(spec, **option)
    assert changed(spec, slo_ttft=3.0, seed=7).slo.ttft == 3.0


def test_lengths_are_those_asked_for_in_every_kind() -> None:
    for kind in opened(changed(SPIKE, prompt_tokens=100, output_tokens=3)).kinds:
        assert kind.lengths == Independent(Fixed(100), Fixed(3))
    one, _ = opened(changed(SPIKE, output_tokens=3)).kinds
    before = opened(SPIKE).kinds[0].lengths
    assert isinstance(before, Independent)
    assert isinstance(one.lengths, Independent)
    assert one.lengths.output == Fixed(3)
    assert one.lengths.prompt == before.prompt


def test_fixed_lengths_take_the_place_of_pairs() -> None:
    pairs = loaded(with_kind("{joint: [[5, 5]]}"))
    (kind,) = opened(changed(pairs, prompt_tokens=9, output_tokens=8)).kinds
    assert kind.lengths == Independent(Fixed(9), Fixed(8))
    with pytest.raises(SpecError, match=r"options: requests\.0: has no output; write output"):
        changed(pairs, prompt_tokens=9)


def test_an_slo_is_replaced_one_by_one() -> None:
    found = changed(CHAT, slo_tpot=0.05).slo
    assert (found.ttft, found.tpot) == (CHAT.slo.ttft, 0.05)
    found = changed(CHAT, slo_ttft=0.3).slo
    assert (found.ttft, found.tpot) == (0.3, CHAT.slo.tpot)


def test_a_seed_changes_the_schedule_alone() -> None:
    other = changed(CHAT, seed=5)
    assert opened(other).schedule() != opened(CHAT).schedule()
    assert changed(other, seed=CHAT.seed) == CHAT


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rates": [-1.0]}, "options: stages.0.hold: -1/s is below zero; write a rate such as"),
        ({"rates": [float("inf")]}, "'inf/s' is not a rate"),
        ({"clients": 0}, "options: closed.clients: 0 must be at least 1"),
        ({"seconds": 0.0}, "options: stages.0.for: 0 must be above 0"),
        ({"prompt_tokens": 0}, "options: requests.0.prompt: lengths are 1 token or more"),
        ({"slo_ttft": 0.0}, "options: slo.ttft: 0 must be above 0"),
        ({"seed": -1}, "options: seed: -1 must be at least 0"),
    ],
)
def test_impossible_options_are_refused_in_words(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as refused:
        changed(CHAT, **options)
    assert words in str(refused.value)


def test_a_workload_of_one_length_is_made_by_hand() -> None:
    spec = fixed_workload("w", 9, 4, stages=[(1.5, 10), (1 / 3, 0.25)], seed=3, arrivals="constant")
    made = opened(spec)
    assert made.curve.pieces == (Hold(1.5, 10), Hold(1 / 3, 0.25))
    assert (made.law, made.seed) == (Constant(), 3)
    assert made.kinds[0].lengths == Independent(Fixed(9), Fixed(4))
    closed = fixed_workload("w", 9, 4, clients=2, seconds=5).make()
    assert isinstance(closed, ClosedLoop)
    assert (closed.clients, closed.seconds) == (2, 5)
    with pytest.raises(SpecError, match="does not say when requests come"):
        fixed_workload("w", 9, 4)


def test_conversations_outlive_a_change_of_lengths_prefixes_one_of_outputs() -> None:
    text = with_kind(
        "{prompt: 5, output: 5, prefixes: {count: 2, tokens: 7},"
        " conversation: {turns: {uniform: [1, 4]}, think: 1s}}"
    )
    (kind,) = opened(changed(loaded(text), output_tokens=9)).kinds
    assert kind.prefixes is not None
    (kind,) = opened(changed(loaded(text), prompt_tokens=9)).kinds
    assert kind.prefixes is None  # the prompt is 9 tokens, not 16
    assert kind.conversations is not None
    assert kind.conversations.turns == Uniform(1, 4)


def test_other_keys_of_the_file_stay() -> None:
    spec = loaded(with_line("temperature: 0.7\ndescription: mine"))
    found = changed(spec, rates=[3])
    assert (found.temperature, found.description, found.name) == (0.7, "mine", "w")
