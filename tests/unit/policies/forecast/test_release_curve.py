"""The curve of releases that is kept: read further on, it says what a new one would."""

from __future__ import annotations

import random

import pytest

from forebay.policies.forecast import Ledger, waiting_time
from forebay.policies.forecast.waiting_time import ReleaseCurve, Wait
from forebay.policies.request import Cost, OutputModel, Sequence, Ticket

SLOTS = 32
KV = 1_000_000
ANSWER = 100


def running(ledger: Ledger, produced: int, cap: int = ANSWER) -> Sequence:
    """One more answer that runs, with so many tokens made."""
    ticket = Ticket("interactive", 0, Cost(1, 10, cap, cap), 0.0, 1.0, 0.1)
    ledger.open(ticket, cap)
    ledger.start(ticket.sequences[0])
    ledger.produce(ticket.sequences[0], produced)
    return ticket.sequences[0]


def step(ledger: Ledger) -> None:
    for sequence in list(ledger.running):
        ledger.produce(sequence, 1)


def to_the_limit() -> OutputModel:
    outputs = OutputModel(64)
    for _ in range(100):
        outputs.passed(0, 100_000)
    return outputs


def steps(curve: ReleaseCurve, slots: int) -> float:
    return curve.now(ANSWER).wait(Wait(slots=slots, kv_tokens=0))


def test_read_some_steps_later_it_says_what_a_new_one_would() -> None:
    rng, errors = random.Random(1), []
    for _ in range(300):
        ledger, outputs = Ledger(("interactive",), 64), to_the_limit()
        for _ in range(rng.randrange(16, SLOTS + 1)):
            running(ledger, rng.randrange(ANSWER - 10))
        kept = ReleaseCurve(ledger, outputs, SLOTS, KV)
        first, slots = kept.now(ANSWER), rng.randrange(1, SLOTS + 1)
        for _ in range(rng.randrange(1, 5)):
            step(ledger)
        assert kept.now(ANSWER) is not first
        anew = steps(ReleaseCurve(ledger, outputs, SLOTS, KV), slots)
        errors.append(abs(steps(kept, slots) - anew))
    errors.sort()
    assert errors[150] < 0.1  # the median
    assert errors[285] < 1.0


def test_it_is_worked_out_anew_after_some_steps_or_some_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng, ledger = random.Random(1), Ledger(("interactive",), 64)
    answers = [running(ledger, rng.randrange(50)) for _ in range(SLOTS)]
    anew: list[int] = []
    worked_out = waiting_time.expected_releases

    def counted(*args: object, **named: object) -> object:
        anew.append(ledger.changes)
        return worked_out(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(waiting_time, "expected_releases", counted)
    curve = ReleaseCurve(ledger, to_the_limit(), SLOTS, KV)
    for _ in range(3):
        curve.now(ANSWER)
        step(ledger)
    assert len(anew) == 1
    for _ in range(2):
        step(ledger)
    curve.now(ANSWER)
    assert len(anew) == 2  # more than four steps later
    for answer in answers[:4]:
        ledger.end(answer)
        curve.now(ANSWER)
    assert len(anew) == 3  # at the fourth of 32: more than an eighth of what is left


def test_short_kv_is_told_from_what_runs_now() -> None:
    ledger = Ledger(("interactive",), 64)
    running(ledger, 50)
    curve = ReleaseCurve(ledger, to_the_limit(), SLOTS, KV)
    curve.now(ANSWER)
    step(ledger)
    read_on = curve.now(ANSWER)
    assert curve.now(ANSWER, kv=True) is not read_on
    assert curve.now(ANSWER) is curve.now(ANSWER, kv=True)


def test_once_nothing_runs_a_typical_answer_is_what_is_waited_for() -> None:
    ledger = Ledger(("interactive",), 64)
    only = running(ledger, 50)
    curve = ReleaseCurve(ledger, to_the_limit(), SLOTS, KV)
    assert steps(curve, 1) < ANSWER
    ledger.end(only)
    assert curve.now(64.0).wait(Wait(slots=SLOTS, kv_tokens=0)) == 64.0
