"""Which prompts the engine computes in parts, and how large those are.

vLLM gives the tokens of a step first to who runs already, so a prompt of many steps takes all of
each, and whoever comes meanwhile waits for its end. Cut into parts it leaves most of a step to
others. The price is that a long prompt takes its turn beside others that came later.

So only a prompt that no single step could compute is cut, and one of batch beside interactive
requests; others are cut with it while it is computed, and in one go otherwise. On real vLLM, of
prompts of 1,400 tokens at 3 x capacity 5.3 a second were good with all cut at an eighth of a step,
5.7 at a quarter, and 6.1 uncut, as with vLLM alone (record 0023).

In virtual time (the engine of `test_admission_in_time.py`, 2,048 tokens a step, 60 % load), beside
a prompt 50 times as long the p99 TTFT of the others rose from 29 ms to 233 ms uncut, to 50 ms cut
at a quarter of a step, and to 36 ms at an eighth. Where all prompts are long (1,442 tokens, 80 %
load), cutting at an eighth took their p99 TTFT from 0.43 s to 0.48 s; what an overloaded engine
finishes did not change.
"""

from __future__ import annotations

_PARTS = 8


def part_tokens(step_tokens: int) -> int:
    """Tokens of a part, for steps of so many."""
    return max(step_tokens // _PARTS, 1)
