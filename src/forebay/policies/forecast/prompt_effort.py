"""How much longer a prompt's tokens take the more they attend to, and what was drained of late.

Each token of a prompt is compared with all before it, so its time grows with its place: it is
`1 + per_context x place` of what the first one takes. On a CPU each token of a prompt of 1,400
takes half as long again as one of 180, on a GPU that takes tens of thousands. A rate learned from
short prompts would let in too many long ones at first, and the other way round too few.

Very long prompts, computed in parts, are not in this: see `long_prompts.py`.
"""

from __future__ import annotations

_HALF_LIFE_S = 2.0  # as of the rate that is corrected by it
_STEEPEST = 0.002  # twice what was seen of a model of little width on a CPU
_MOST_TIMES = 4.0  # of what was drained of late: beyond, nothing was seen


class PromptEffort:
    """Effort of prompts, in that of as many tokens that attend to nothing.

    Attributes:
        per_context: by how much a token takes longer for each one before it; 0 while unknown.
    """

    def __init__(self) -> None:
        """Every token takes as long as every other."""
        self.per_context = 0.0
        self._tokens = self._effort = 0.0

    def measure(self, short: int, short_s: float, long: int, long_s: float) -> None:
        """Learn from two prompts, of so many tokens and seconds.

        Solves (a + b x short / 2) x short = short_s and the same of the long one for b / a.
        """
        short_each, long_each = short_s / short, long_s / long
        if not long_each > short_each > 0.0 or long <= short:
            return
        slope = 2.0 * (long_each - short_each) / (long - short)
        first = short_each - slope * short / 2.0
        self.per_context = min(slope / first, _STEEPEST) if first > 0.0 else _STEEPEST
        self._tokens, self._effort = float(short), short * self.of(short, short * short)

    def believe(self, tokens: float) -> None:
        """What was drained of late was as much as this, of the same effort."""
        if self._tokens:
            self._tokens, self._effort = tokens, tokens * self._effort / self._tokens

    def of(self, tokens: float, attended: float) -> float:
        """Effort for each of so many tokens.

        Args:
            tokens: of prompts.
            attended: twice the tokens before them, added up over all of them.
        """
        return 1.0 + self.per_context * attended / (2.0 * tokens) if tokens > 0.0 else 1.0

    def drained(self, tokens: float, effort: float, seconds: float) -> None:
        """So many tokens of such effort were computed, in a step of so many seconds."""
        keep = 0.5 ** (seconds / _HALF_LIFE_S)
        self._tokens = self._tokens * keep + tokens
        self._effort = self._effort * keep + tokens * effort

    def times(self, tokens: float, attended: float) -> float:
        """How many times longer than what was drained of late such tokens take, each of them."""
        if not self._effort or tokens <= 0.0:
            return 1.0
        times = self.of(tokens, attended) * self._tokens / self._effort
        return min(max(times, 1.0 / _MOST_TIMES), _MOST_TIMES)
