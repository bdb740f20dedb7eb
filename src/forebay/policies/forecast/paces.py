"""How fast the engine is, as its steps show: prompts drained, answers' tokens made.

A step computes prompts and answers together, so what it shows depends on what bound it. Prompt
tokens count as drained only while it is the token budget that prompts wait for; the pace of a full
engine is taken from steps with nearly all slots in use, less what their prompts take.
"""

from __future__ import annotations

from math import inf

from forebay.policies.fading import DecayedRate
from forebay.policies.forecast.ledger import Answers
from forebay.policies.forecast.prompt_effort import PromptEffort
from forebay.policies.forecast.step_law import StepLaw
from forebay.policies.request import part_tokens

_FULL_SHARE = 0.9  # of the slots, from which on the engine counts as full
_MOST_TIMES = 4.0  # of the fullest step that is usual: longer ones do not count for more
_LEAST_ANSWERS = 0.25  # of a step's time is its answers', whatever its prompts should take
_BELIEVED_S = 1.0  # of traffic outweigh what is reckoned of the warm-up
# Of the pace of whole steps, at which prompts drain at least where none was seen to be full: what a
# step takes beside its prompts is not longer than these.
_LEAST_OF_WHOLE = 0.5
_MOSTLY = 0.5  # of the seconds that taught the drain rate
_LONGEST_STEP_S = 10.0  # a longer gap is a stall or a suspended machine, not a rate


class Paces:
    """Rates of one engine.

    Attributes:
        prefill_rate: prompt tokens/s that it drains while they bind.
        step_rate: steps/s with answers in them.
        full_step_rate: steps/s of a full engine, without what its prompts take.
        law: how long a step takes, by its answers, what they attend to, and its prompt tokens.
        effort: how much longer tokens take in longer prompts.
    """

    def __init__(self, slots: int, step_tokens: int) -> None:
        """Know nothing; see `AdmissionConfig` for the two limits."""
        self._slots = slots
        self._step_tokens = step_tokens
        self.forget()

    def forget(self) -> None:
        """What was seen so far was not the engine's pace: it was compiling, say."""
        self.prefill_rate = DecayedRate(half_life_s=2.0)
        self._whole = DecayedRate(half_life_s=2.0)  # the share of its seconds in whole steps
        self._whole_rate = 0.0  # tokens/s when it was mostly of those
        self.step_rate = DecayedRate(half_life_s=1.0)
        self.full_step_rate = DecayedRate(half_life_s=5.0)
        self.law = StepLaw()
        self.effort = PromptEffort()
        self._last_step_at: float | None = None
        self._contended = self._is_whole = False
        self._drained, self._finished, self._in_parts = 0.0, 0, False
        self._effort = 1.0
        self._before = self._first_before = Answers(0, 0)

    @property
    def seconds_per_token(self) -> float:
        """Current time per output token of one running sequence, in seconds."""
        rate = self.step_rate.rate
        return 1.0 / rate if rate else 0.0

    @property
    def seconds_per_token_when_full(self) -> float:
        """Time per output token with nearly all slots taken, in seconds.

        Who waits for a slot waits on a full engine, also when the burst that fills it has only
        begun and tokens still come at the pace of a light load. Of steps that also compute prompts,
        what these take is left out: prompts are counted by themselves.
        """
        rate = self.full_step_rate.rate
        return 1.0 / rate if rate else self.seconds_per_token

    @property
    def drain_rate(self) -> float:
        """Prompt tokens/s at which a queue drains; 0 while unknown.

        A few short prompts beside answers show how long a step takes at least, and not how much
        more could have been in it: on an H100, 30 tokens in a step of 10 ms, where 8,192 take 150.
        So unless it was whole steps that were seen, a part of what those last drained says it. (The
        law of steps would not: of 30 tokens it tells nothing of 8,192.)
        """
        seen = self.prefill_rate.rate
        if not seen or self._whole.rate > _MOSTLY:
            return seen
        return max(seen, _LEAST_OF_WHOLE * self._whole_rate)

    def prompts_s(self, tokens: float) -> float:
        """Seconds that so many prompt tokens take; 0 while that is unknown."""
        rate = self.drain_rate
        return tokens / rate if rate else 0.0

    def warmed_up(self) -> None:
        """What was seen was a warm-up: prompts drain at least as fast as whole steps of them would.

        What waited for the token budget in it was mostly one very long prompt, whose attention to
        its own beginning makes it several times as slow as as many tokens of usual ones.
        """
        self.law.settle()
        if not self.law.known:
            return
        rate = self._whole_rate = self._step_tokens / self.law.seconds(0, self._step_tokens)
        if rate > self.prefill_rate.rate:
            self.prefill_rate.seed(rate, _BELIEVED_S)
            self._whole.seed(1.0, _BELIEVED_S)
            self.effort.believe(rate * _BELIEVED_S)

    def woke(self, now: float, prompt_tokens: int) -> None:
        """Prompts of so many tokens reached an idle engine at `now` (s).

        One that takes several steps waits for nothing but the token budget: its time tells how fast
        prompts drain, on an engine that never has a queue. A shorter one would tell how long a step
        takes at least.
        """
        if prompt_tokens >= part_tokens(self._step_tokens):
            self._last_step_at, self._contended = now, True
            self._is_whole = prompt_tokens >= self._step_tokens
            self._drained, self._finished, self._in_parts = 0.0, 0, False

    def learn(
        self,
        *,
        drained: float,
        finished: int | None,
        decoded: bool,
        engine_at: float,
        answers: Answers,
        queued: int,
        binding: bool = True,
        whole: bool = True,
        full: float | None = None,
        crowded: bool = False,
        cut: bool = False,
        first: Answers | None = None,
        left_out: bool | None = False,
        effort: float = 1.0,
    ) -> None:
        """Learn from the interval since the step before, by what bound the engine in it.

        Args:
            drained: prompt tokens computed since the step before it, of prompts that go on too:
                as reckoned.
            finished: those of the prompts that it finished, where none are computed in parts: as
                seen. None where some are.
            decoded: whether it made tokens of answers begun before.
            engine_at: when it ended, seconds on the engine's clock.
            answers: those that run after it.
            queued: sequences that wait in the engine after it.
            binding: whether it could be prompt tokens that they wait for.
            whole: whether they have as many as a step computes.
            full: sequences at once of a full engine; None: its slots.
            crowded: whether it could be KV blocks: then nobody knows which step computed what.
            cut: whether it computed a part of a very long prompt, whose tokens take longer.
            first: those of the answers that give way to no prompt; None: all.
            left_out: whether the others had no part in it; None: nobody knows.
            effort: of the prompt tokens (`PromptEffort.of`).
        """
        running = answers.running
        self._drained += drained
        self._effort = effort
        if finished is None:
            self._in_parts = True
        else:
            self._finished += finished
        if self._last_step_at is not None:
            elapsed = engine_at - self._last_step_at
            if elapsed <= 0.0:
                return  # a further slice of the same step: vLLM hands on 128 outputs at a time
            if elapsed < _LONGEST_STEP_S:
                known = left_out is not None and not (crowded and (queued or self._drained))
                known = known and not cut
                elapsed = min(elapsed, self._longest_credible_s)
                is_full = running >= _FULL_SHARE * (full or self._slots) and not left_out
                self._take(elapsed, decoded, known=known, left_out=bool(left_out), full=is_full)
        self._drained, self._finished, self._in_parts = 0.0, 0, False
        self._last_step_at = engine_at
        # Prompts wait in the engine for the token budget, and not for slots.
        self._contended = binding and queued > 0 and running + queued <= self._slots
        self._is_whole = whole
        self._before, self._first_before = answers, first or answers

    def _take(
        self, elapsed: float, decoded: bool, *, known: bool, left_out: bool, full: bool
    ) -> None:
        if self._contended and self._drained > 0:
            # A step of no prompt at all found none: those queued were still on their way to it.
            self.prefill_rate.add(self._drained, elapsed)
            self._whole.add(self._is_whole * elapsed, elapsed)
            if self._whole.rate > _MOSTLY:
                self._whole_rate = self.prefill_rate.rate
            self.effort.drained(self._drained, self._effort, elapsed)
        if not decoded:
            return
        self.step_rate.add(1.0, elapsed)
        # What is seen is better than what is reckoned. Where prompts wait and none was finished,
        # the engine may have begun one.
        seen = not self._in_parts and (self._finished > 0 or not self._contended)
        if known and (seen or self._in_parts):
            computed = float(self._finished) if seen else self._drained
            before = self._first_before if left_out else self._before
            self.law.add(before.running, computed, elapsed, before.context)
        if full:
            rate = self.prefill_rate.rate
            answers_s = elapsed - (self._drained / rate if rate else 0.0)
            self.full_step_rate.add(1.0, max(answers_s, _LEAST_ANSWERS * elapsed))

    @property
    def _longest_credible_s(self) -> float:
        """Seconds that one step may count for; a standstill is remembered as no more than that.

        Several times a step with all slots and all its prompt tokens, or with what several steps
        drained of which none was seen, so that an engine that has become slow is still seen as what
        it is after a few steps.
        """
        tokens = max(self._step_tokens, self._drained)
        fullest_s = self.seconds_per_token_when_full + self.prompts_s(tokens)
        return _MOST_TIMES * fullest_s or inf
