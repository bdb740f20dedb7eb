"""How far below the promised pace steps have to stay, so that nearly all answers keep it.

As many sequences at once as make a step as long as is promised, in the mean, make many answers
later than that, up to half: steps differ by the prompts in them, and answers by the steps they had.
By how much depends on the traffic, so it is learned from answers that have ended: a share of them,
all begun since the margin was last changed, says whether it has to change again. Those who began
before were let in under another one, and to judge by them would be to correct the same fault twice.
"""

from __future__ import annotations

_MOST_LATE = 0.05  # of the answers
_JUDGED = 64  # answers that ended, for one change
_GAIN = 0.3  # of the share that is late beyond the most, by which the margin changes
_LEAST = 0.7  # of the promise


class PaceMargin:
    """Learns the share of the promised time per token that the mean step may take."""

    def __init__(self) -> None:
        """Nobody was late."""
        self.share = 1.0
        self._since = -float("inf")
        self._ended = self._late = 0

    def ended(self, began_at: float, now: float, *, late: bool) -> None:
        """An answer that was let in at `began_at` (s) ended, later than promised or in time."""
        if began_at < self._since:
            return
        self._ended += 1
        self._late += late
        if self._ended >= _JUDGED:
            over = self._late / self._ended - _MOST_LATE
            self.share = min(max(self.share * (1.0 - _GAIN * over), _LEAST), 1.0)
            self._since, self._ended, self._late = now, 0, 0

    def __repr__(self) -> str:
        return f"<PaceMargin {self.share:.2f}>"
