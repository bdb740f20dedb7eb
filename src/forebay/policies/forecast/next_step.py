"""What the engine computes now, and the first token of a request that waits only for steps.

While slots and KV are free, a request waits for the end of the step that runs, and for the step
that computes its prompt; for one more, where its way through the front end (templating, tokenizing,
the process boundary) takes longer than the rest of the first. On a lightly loaded engine that is
all of its TTFT: how far the step has got is known, and the way in is much the same from one request
to the next.

What is computed already counts in a queue too. Where a prompt takes a good part of the budget, what
is left of the one before decides whether another can wait for it.
"""

from __future__ import annotations

from math import ceil, inf
from typing import NamedTuple

from forebay.policies.forecast.ledger import Answers
from forebay.policies.forecast.paces import Paces
from forebay.policies.request import part_tokens

_KEEP = 0.9  # weight that the way in keeps at each request


class Queued(NamedTuple):
    """Prompts queued in an engine: how many, their tokens to compute, and of the large likewise.

    Large is what may take several steps: in parts, where they are `cut`, and otherwise where the
    budget of a step ends. `first` are the tokens of those that give way to nobody, which steps
    compute alone where others do; where there are none, a step computes `few` of the others' (0: as
    many as there are). What of them is very long takes `times` as long as as many tokens of others;
    where a step computes fewer the further a prompt is (`marks.tokens_at`), those of the next step
    take `few_times`.
    """

    prompts: int
    tokens: int
    large_prompts: int
    large_tokens: int
    cut: bool = False
    first: int = 0
    few: int = 0
    times: float = 1.0
    few_times: float | None = None


class NextStep:
    """Where the engine is in its steps, and how long requests take to reach it.

    A long prompt is computed in parts, and so are those beside it. Steps that only
    compute such parts show no sign of life: while no answer runs, the time that passed tells how
    far they are.
    """

    def __init__(self, slots: int, step_tokens: int, paces: Paces) -> None:
        """Nothing was seen.

        Args:
            slots: as in `AdmissionConfig`.
            step_tokens: likewise.
            paces: whose law says how long steps take; read, and not changed.
        """
        self._slots = slots
        self._step_tokens = step_tokens
        self._part = part_tokens(step_tokens)
        self._paces = paces
        self._began_at: float | None = None
        self._ended_at = -inf  # the step before, on the engine's clock
        self._running = self._context = 0
        self._cut, self._times = False, 1.0
        self._token_times = 1.0  # as long as others' do those tokens take which it computes
        self._computing = 0.0  # prompt tokens of the step that runs
        self._computed = 0.0  # and by those before it, of what is still queued
        self._of_first = 0.0  # of these, those of prompts that give way to nobody
        self.computes_first = False  # whether it computes those
        self._left = 0  # of prompts that left since it began
        self.way_in_s = 0.0

    def entered(self, seconds: float) -> None:
        """A request reached the engine so many seconds after it was admitted."""
        self.way_in_s = _KEEP * self.way_in_s + (1.0 - _KEEP) * seconds

    def left(self, tokens: int) -> None:
        """Of a prompt of so many that was queued in the engine, no more will come."""
        self._left += tokens

    def woke(self, now: float, queued: Queued) -> None:
        """Prompts reached an idle engine at `now` (s)."""
        self._computed, self._of_first, self._left = 0.0, 0.0, 0
        self._begin(now, Answers(0, 0), queued)

    def stepped(
        self,
        now: float,
        engine_at: float,
        drained: int,
        answers: Answers,
        queued: Queued,
        left_out: int = 0,
    ) -> float:
        """A step ended, and the next begins.

        Args:
            now: when that was seen, seconds.
            engine_at: when it ended on the engine's clock, seconds. One no later than the one
                before is a further slice of the same step.
            drained: prompt tokens of the prompts that it finished.
            answers: those that go on in the next step.
            queued: what is still queued in the engine.
            left_out: further answers, which have slots and no part in the next step.

        Returns:
            Prompt tokens computed since the step before: those of prompts that go on, too.
        """
        before, tokens = self._computed, queued.tokens + drained + self._left
        if engine_at <= self._ended_at:
            computed = self._computed
        elif self._running:
            computed = self._computed + min(self._computing, tokens)
        else:
            computed = self.computed(tokens, now)
        half_done = max(computed - drained, 0.0)
        if self.computes_first:
            self._of_first = max(self._of_first + computed - before - drained, 0.0)
        self._of_first = min(self._of_first, half_done)
        self._computed = half_done
        self._ended_at = engine_at
        self._begin(now, answers, queued, left_out)
        in_vain, self._left = min(self._left, half_done - self._computed), 0
        return max(drained + self._computed + in_vain - before, 0.0)

    def _begin(self, now: float, answers: Answers, queued: Queued, left_out: int = 0) -> None:
        """Of the prompts, as many are computed as have slots and, in parts, the step's tokens.

        What a step leaves half done is of large prompts: of all of them in parts, of one if uncut.
        """
        self._began_at = now
        self._running, self._context = running, _ = answers
        self._cut, self.computes_first = queued.cut, queued.first > 0
        behind = not (queued.few and self.computes_first)
        self._token_times = (behind and queued.few_times) or 1.0
        self._times = queued.times if behind and queued.few_times is None else 1.0
        tokens = max(self._step_tokens - running, 0)
        if queued.few:
            others = queued.tokens - queued.first
            self._of_first = min(self._of_first, queued.first, queued.large_tokens)
            of_others = min(self._computed - self._of_first, others)
            self._computed = self._of_first + of_others
            few = min(queued.few, others - of_others)
            left = queued.first - self._of_first if queued.first else few
            self._computing = float(min(left, tokens))
            return
        part = self._part if queued.cut else self._step_tokens
        at_once = min(queued.prompts, self._slots - running - left_out)
        if queued.cut:
            at_once = min(at_once, ceil(tokens / part))
        half_done = at_once if queued.cut else 1
        begun = queued.large_tokens * min(half_done / max(queued.large_prompts, 1), 1.0)
        self._computed = min(self._computed, begun)
        self._of_first = min(self._computed, queued.first)
        share = at_once / max(queued.prompts, 1)
        self._computing = min(queued.tokens * share - self._computed, at_once * part, tokens)
        self._computing = max(self._computing, 0.0)

    def computed(self, queued_tokens: int, now: float, *, first: bool = False) -> float:
        """Prompt tokens, of those queued in the engine, that it has computed by `now` (s).

        Of those of prompts that give way to nobody, where only the `first` are meant.
        """
        law = self._paces.law
        if not law.known or self._began_at is None:
            return 0.0
        # Prompts may drain more slowly than the law has it, which knows nothing of their length.
        drain_s = self._paces.prompts_s(self._computing * self._token_times)
        step_s = max(self._step_s, drain_s) * self._times
        steps = max(now - self._began_at, 0.0) / step_s
        if self._running:
            steps = min(steps, 1.0)  # its end would have been seen
        done, computing = self._done(first=first)
        return min(done + computing * steps, float(queued_tokens))

    def _done(self, *, first: bool) -> tuple[float, float]:
        """Prompt tokens computed by the steps before, and those of the step that runs."""
        if first:
            return self._of_first, self._computing if self.computes_first else 0.0
        return self._computed, self._computing

    @property
    def of_others(self) -> float:
        """Prompt tokens that steps before computed of prompts that give way, still queued."""
        return self._computed - self._of_first

    def of_those_behind(self, queued_tokens: int, now: float) -> float:
        """Those of them that are of prompts which give way."""
        first = self.computed(queued_tokens, now, first=True)
        return self.computed(queued_tokens, now) - first

    def begun(self, queued_tokens: int, now: float) -> float:
        """Those computed with those of the step that runs: whoever leaves, it computes them."""
        begun = max(self._computed + self._computing, self.computed(queued_tokens, now))
        return min(begun, float(queued_tokens))

    def first_token_s(
        self,
        answers: int,
        queued_tokens: int,
        own_tokens: int,
        now: float,
        *,
        in_parts: bool = False,
        first: bool = False,
    ) -> float | None:
        """Seconds to the first token of a request that arrives at `now`.

        Args:
            answers: sequences in the engine, running or queued.
            queued_tokens: prompt tokens that are queued there and go before it.
            own_tokens: of the request's longest prompt.
            now: seconds, of the clock that `stepped` was told.
            in_parts: whether that prompt has to be computed in parts.
            first: whether the queued ones are only those that give way to nobody.

        Returns:
            None while the law of the steps is unknown.
        """
        law = self._paces.law
        if not law.known:
            return None
        answers_s = law.base_s + answers * law.answer_s(self._context_each)
        begins_s = self.way_in_s
        before = queued_tokens - self.computed(queued_tokens, now, first=first)
        if answers and self._running and self._began_at is not None:
            before = max(queued_tokens - sum(self._done(first=first)), 0.0)
            begins_s = max(self._began_at + self._step_s * self._times - now, 0.0)
            if begins_s < self.way_in_s:  # it misses the next one, which computes those before it
                begins_s = max(begins_s + answers_s + law.per_token_s * before, self.way_in_s)
                before = 0.0
        tokens = before + own_tokens
        own_steps = ceil(own_tokens / self._part) if in_parts or self._cut else 1
        steps = max(own_steps, ceil(tokens / self._step_tokens))
        return begins_s + steps * answers_s + law.per_token_s * tokens

    @property
    def _step_s(self) -> float:
        """Seconds of the step that runs."""
        prompts = self._computing * self._token_times
        return self._paces.law.seconds(self._running, prompts, self._context)

    @property
    def _context_each(self) -> float:
        """Tokens that an answer attends to: one that is queued, as those that run."""
        return self._context / self._running if self._running else self._paces.law.context
