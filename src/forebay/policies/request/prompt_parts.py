"""Which prompts the engine computes in parts, and how large those are.

vLLM gives the tokens of a step first to who runs already, so a prompt of many steps takes all of
each, and whoever comes meanwhile waits for its end. Cut into parts it leaves most of a step to
others. The price is that a long prompt takes its turn beside others that came later.

So only a prompt is cut that is long beside the usual ones, and that no single step could compute;
and one of batch beside interactive requests. Others are cut with it while it is computed, and in
one go otherwise. On real vLLM, of prompts of 1,400 tokens at 3 x capacity 5.3 a second were good
with all cut at an eighth of a step, 5.7 at a quarter, and 6.1 uncut, as with vLLM alone; where
prompts of one to four steps are common, cutting these doubled their TTFT and helped nobody
(docs/admission.md).

In virtual time (the engine of `test_admission_in_time.py`, 2,048 tokens a step, 60 % load), beside
a prompt 50 times as long the p99 TTFT of the others rose from 29 ms to 233 ms uncut, to 50 ms cut
at a quarter of a step, and to 36 ms at an eighth. Where all prompts are long (1,442 tokens, 80 %
load), cutting at an eighth took their p99 TTFT from 0.43 s to 0.48 s; what an overloaded engine
finishes did not change.
"""

from __future__ import annotations

from math import exp, log

from forebay.policies.request.cost import Cost

_PARTS = 8
_LONG = 8.0  # times the usual prompt, from which on one is long
_KEEP = 0.5 ** (1 / 100)  # weight that what is usual keeps at each request
_PRIOR = 40.0  # requests' weight of what is thought usual at first


def part_tokens(step_tokens: int) -> int:
    """Tokens of a part, for steps of so many."""
    return max(step_tokens // _PARTS, 1)


class Cutting:
    """From which length on a prompt is computed in parts.

    Usual is the geometric mean of what was let in: a few very long prompts hardly move it.

    Attributes:
        uncut: tokens up to which a prompt is computed in one go, unless a longer one is computed.
    """

    def __init__(self, step_tokens: int) -> None:
        """Nobody has come; a step computes so many tokens."""
        self._step_tokens = step_tokens
        self.forget()

    def forget(self) -> None:
        """What came so far was no traffic."""
        self._weight = _PRIOR
        self._logs = _PRIOR * log(max(self._step_tokens / _LONG, 1.0))
        self._set()

    def came(self, tokens: int) -> None:
        """A prompt with so many tokens to compute was let in."""
        self._weight = _KEEP * self._weight + 1.0
        self._logs = _KEEP * self._logs + log(max(tokens, 1))
        self._set()

    def cuts(self, cost: Cost) -> bool:
        """Whether the prompts of such a request are computed in parts."""
        return cost.prefill_per_sequence > self.uncut

    def _set(self) -> None:
        self.uncut = max(self._step_tokens, int(_LONG * exp(self._logs / self._weight)))
