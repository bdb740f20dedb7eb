"""The first token of a request that nothing but the engine's steps stands before.

While slots and KV are free, a request waits for three things: its way through the front end
(templating, tokenizing, the process boundary), the rest of the step that runs, and the step that
computes its prompt. On a lightly loaded engine these are all of its TTFT, and the first two make
one request's twice another's: how far the step has got is known, and the way in is much the same
from one request to the next.

This says what is to be expected and what users are told. Admission decides by `waits.py`, which is
about queues and need not know where in a step an arrival falls.
"""

from __future__ import annotations

from math import ceil

from forebay.policies.prompt_parts import part_tokens
from forebay.policies.step_law import StepLaw

_KEEP = 0.9  # weight that the way in keeps at each request


class NextStep:
    """Where the engine is in its steps, and how long requests take to reach it."""

    def __init__(self, step_tokens: int) -> None:
        """Nothing was seen; `step_tokens` as in `AdmissionConfig`."""
        self._step_tokens = step_tokens
        self._part = part_tokens(step_tokens)
        self._began_at: float | None = None
        self._running = self._computing = 0
        self.way_in_s = 0.0

    def entered(self, seconds: float) -> None:
        """A request reached the engine so many seconds after it was admitted."""
        self.way_in_s = _KEEP * self.way_in_s + (1.0 - _KEEP) * seconds

    def began(self, now: float, running: int, prompt_tokens: int, prompts: int) -> None:
        """A step ended at `now` (s): the next computes these answers and, in parts, prompts."""
        self._began_at = now
        self._running = running
        self._computing = min(prompt_tokens, prompts * self._part, self._step_tokens)

    def first_token_s(
        self, law: StepLaw, answers: int, queued_tokens: int, own_tokens: int, now: float
    ) -> float | None:
        """Seconds to the first token of a request that arrives at `now`.

        Args:
            law: how long steps take.
            answers: sequences in the engine, running or queued.
            queued_tokens: prompt tokens that are queued there.
            own_tokens: of the request's longest prompt.
            now: seconds, of the clock that `began` was told.

        Returns:
            None while the law of the steps is unknown.
        """
        if not law.known:
            return None
        rest_s, computing = 0.0, 0
        if answers and self._began_at is not None:
            computing = min(self._computing, queued_tokens)
            ends_at = self._began_at + law.seconds(self._running, computing)
            rest_s = max(ends_at - now, 0.0)
        tokens = queued_tokens - computing + own_tokens
        steps = max(ceil(own_tokens / self._part), ceil(tokens / self._step_tokens), 1)
        return self.way_in_s + rest_s + steps * law.seconds(answers, 0) + law.per_token_s * tokens

    def __repr__(self) -> str:
        return f"<NextStep way in {1e3 * self.way_in_s:.1f} ms, {self._running} answers>"
