"""How long a step of the engine takes, by what it computes: a law learned from the steps seen.

    seconds = base + per_sequence x (answers that get a token) + per_token x (prompt tokens)
                   + per_context x (tokens that these answers attend to)

Least squares with fading memory. The parts are told apart as soon as steps differ in each respect,
which the warm-up sees to; where the steps seen do not tell them apart, a weak pull towards "all of
it is the base" decides. While all answers attend to as much, that is so of the answers and what
they attend to: either may be said to take the time. So whoever asks, asks with the context that
answers have (`promised_pace.py`).
"""

from __future__ import annotations

import numpy as np

from forebay.policies.request import Floats

_KEEP = 0.5 ** (1 / 4000)  # a step loses half its weight in so many: half a minute and more
_REFIT = 32  # steps between two fits
_MOST_TIMES = 4.0  # of what the law says: a longer step was a standstill, and counts as that
_STRANGE = 2.0  # times longer or shorter than the law says: the engine is not what it was
_STRANGE_KEEP = 0.5  # of what was learned, at each fit of such steps
_ENOUGH = 256.0  # steps' weight, above which that is done
# Of the steps' weight, with which the slopes are held at 0. What could be the answers' or their
# context's is mostly the answers': noise taken for context would be large where contexts are.
_PULL = np.array([0.0, 1e-6, 1e-6, 1e-5])
_AGES = np.arange(_REFIT - 1, -1, -1.0)[:, np.newaxis]  # of the steps between two fits
_ROOTS = np.sqrt(_KEEP**_AGES)  # of their weights


class StepLaw:
    """Seconds of a step as a linear law, learned."""

    def __init__(self) -> None:
        """Know nothing."""
        # Of 1, answers, prompt tokens, context and seconds, each of the five with each, fading.
        self._moments: Floats = np.zeros((5, 5))
        self._steps: list[tuple[float, ...]] = []  # since the last fit, the same five of each
        self.base_s = 0.0
        self.per_sequence_s = 0.0
        self.per_token_s = 0.0
        self.per_context_s = 0.0

    @property
    def known(self) -> bool:
        """Whether enough steps were seen."""
        return self.base_s > 0.0

    @property
    def context(self) -> float:
        """Tokens that an answer attended to, in the mean over the steps seen."""
        answers, tokens = float(self._moments[0, 1]), float(self._moments[0, 3])
        return tokens / answers if answers else 0.0

    def seconds(self, sequences: float, prompt_tokens: float, context: float = 0.0) -> float:
        """Duration of a step with so many answers and prompt tokens; 0 while unknown.

        Args:
            sequences: answers that get a token.
            prompt_tokens: computed in it.
            context: tokens that these answers attend to, all together.
        """
        return (
            self.base_s
            + self.per_sequence_s * sequences
            + self.per_token_s * prompt_tokens
            + self.per_context_s * context
        )

    def answer_s(self, context: float) -> float:
        """What an answer that attends to so many tokens takes of each step, in seconds."""
        return self.per_sequence_s + self.per_context_s * context

    def add(
        self, sequences: float, prompt_tokens: float, seconds: float, context: float = 0.0
    ) -> None:
        """A step with so many answers and prompt tokens took so long; `context` as in `seconds`."""
        self._steps.append((1.0, sequences, prompt_tokens, context, seconds))
        if len(self._steps) >= _REFIT:
            self._fit()

    def settle(self) -> None:
        """Fit by what was seen, however little since the last fit."""
        if self._steps:
            self._fit()

    def _fit(self) -> None:
        """Solve for the parts; one that comes out below 0 is taken to be 0."""
        self._take_in()
        # In units in which all parts are of a size: contexts are a million times the base's 1.
        unit = np.sqrt(np.diag(self._moments)[:4])
        unit[unit == 0.0] = 1.0
        every = self._moments[:4, :4] / np.outer(unit, unit) + np.diag(_PULL)
        products = self._moments[:4, 4] / unit
        free = [0, 1, 2, 3]
        while True:
            found = np.linalg.solve(every[np.ix_(free, free)], products[free])
            worst = int(np.argmin(found[1:])) + 1 if len(free) > 1 else 0
            if found[worst] >= 0.0 or not worst:
                break
            del free[worst]
        if found[0] > 0.0:
            parts = dict(zip(free, (found / unit[free]).tolist(), strict=True))
            self.base_s = parts[0]
            self.per_sequence_s = parts.get(1, 0.0)
            self.per_token_s = parts.get(2, 0.0)
            self.per_context_s = parts.get(3, 0.0)

    def _take_in(self) -> None:
        """Count what was seen since the last fit.

        Forget sooner where steps are no longer what the law says. Otherwise an engine that has
        become fast again would be kept from showing it: few answers are let in, and few tell
        little of the time that each takes.
        """
        steps: Floats = np.array(self._steps)
        self._steps.clear()
        times = 1.0
        if self.known:
            parts = (self.base_s, self.per_sequence_s, self.per_token_s, self.per_context_s)
            said = steps[:, :4] @ np.array(parts)
            steps[:, 4] = np.minimum(steps[:, 4], _MOST_TIMES * said)
            times = float(steps[:, 4].sum() / said.sum())
        steps *= _ROOTS[-len(steps) :]
        self._moments = _KEEP ** len(steps) * self._moments + steps.T @ steps
        if self._moments[0, 0] > _ENOUGH and not 1.0 / _STRANGE < times < _STRANGE:
            self._moments *= _STRANGE_KEEP
