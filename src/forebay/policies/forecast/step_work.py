"""What the engine's steps have to compute of the prompts that it has, as the ledger has it.

What a step shows depends on it: how fast prompts drain is told only by steps that were full of
them, and how far a prompt is in the step that runs by how many tokens of whom a step computes.
"""

from __future__ import annotations

from typing import NamedTuple

from forebay.policies.forecast.ledger import Answers, Ledger
from forebay.policies.forecast.next_step import NextStep, Queued
from forebay.policies.forecast.waits import Waits
from forebay.policies.request import AdmissionConfig


class Computing(NamedTuple):
    """The prompts of the next steps.

    Attributes:
        few: tokens of those who give way that a step computes; 0: as many as there are.
        whole: whether there are as many tokens to compute as a step has room for.
        binding: whether it can be prompt tokens that the engine's queue waits for.
    """

    few: int
    whole: bool
    binding: bool


class StepWork:
    """Reads the state that it is given, and changes none of it."""

    def __init__(
        self, config: AdmissionConfig, ledger: Ledger, waits: Waits, next_step: NextStep
    ) -> None:
        """See `AdmissionController` for what these are."""
        self._config = config
        self._ledger = ledger
        self._waits = waits
        self._next_step = next_step

    @property
    def computing(self) -> Computing:
        """What the next steps compute."""
        few = self._waits.few
        whole = self._in_a_step(few) >= self._config.step_tokens
        return Computing(few, whole, self._binds(few, whole=whole))

    def _in_a_step(self, few: int) -> int:
        """Prompt tokens in the engine that steps have to compute, as many at a time as they can."""
        ledger = self._ledger
        if few:
            return ledger.front.engine_prefill + few
        if not ledger.behind.held:
            return ledger.engine_prefill
        return ledger.engine_prefill - ledger.behind.beyond_a_step(ledger.part)

    def _binds(self, few: int, *, whole: bool) -> bool:
        """See `Computing.binding`.

        What is held back leaves the engine short, and tells nothing of how fast it drains; of what
        batch has in it, a step computes a part. Nor do a few short prompts on an engine that runs
        nothing tell anything: it waits for them, while they are on their way. A very long prompt
        waits for its part of each step, and what that takes is not the others' pace.
        """
        ledger = self._ledger
        if ledger.front.in_parts:
            return False
        if whole:
            return True
        if ledger.behind.held or (few and not ledger.front.engine_prefill):
            return False
        return bool(ledger.running) or ledger.large > 0

    @property
    def queued(self) -> Queued:
        """The prompts in the engine."""
        ledger, waits = self._ledger, self._waits
        few = waits.few
        return Queued(
            ledger.in_engine - len(ledger.running),
            ledger.engine_prefill,
            ledger.large,
            ledger.large_tokens,
            cut=bool(ledger.front.in_parts or (ledger.long and not few)),
            first=ledger.front.engine_prefill,
            few=few,
            times=waits.own.long_times,
            few_times=waits.few_times,
        )

    @property
    def answers(self) -> Answers:
        """Those that have a part in the next step: an interactive prompt has batch give way."""
        front = self._ledger.front
        prompt_goes_first = front.sequences > front.held
        return self._ledger.going_first if prompt_goes_first else self._ledger.answers

    @property
    def computed_very_long(self) -> bool:
        """Whether the step that has ended computed a part of a very long interactive prompt."""
        if self._ledger.front.in_parts:
            return True
        return self._ledger.aside.engine_prefill > 0 and not self._next_step.computes_first

    @property
    def kv_is_short(self) -> bool:
        """Whether prompts may wait in the engine for KV blocks."""
        return self._ledger.kv_tokens > self._config.kv_tokens
