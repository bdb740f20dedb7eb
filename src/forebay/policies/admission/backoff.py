"""How long a refusal is kept back while the gate is behind.

Refusing costs little, and not nothing. Clients that come back the moment they are refused take as
much of the event loop as there is, and those who were admitted wait for their turn in it: at each
of the steps that a request takes to the engine, for everybody whose turn comes before. First tokens
come late, so fewer are admitted, so more come back. A refusal that is kept back makes such a client
come back less often, and costs a timer.

It is done only where nearly all are refused. Clients who come by themselves at twelve times the
capacity are let in one of twelve, and a refusal comes at once however slow the machine; of 64 who
came back at once, one in fifty was.
"""

from __future__ import annotations

# A turn of the loop took 1 ms at three times the capacity by clients that do not come back at once
# (two slow cores; seen once, in a log of turns), and tens of ms where 64 of them did.
_BEHIND_S = 0.008
_TIMES = 50.0  # of what it is behind by: refusals/s then fall to what the loop has time for
_MOST_S = 1.0
_KEEP = 1.0 - 1.0 / 32  # weight that earlier turns keep at each refusal
_NEARLY_ALL = 0.95  # refused, of those who came
# Requests that begin together end together, and are let in in bursts: a share of the last few
# hundred swings from burst to burst.
_KEEP_SHARE = 1.0 - 1.0 / 512  # weight that earlier decisions keep at each


class Backoff:
    """The mean turn of the event loop, as refusals see it, and the share of those refused."""

    def __init__(self) -> None:
        """Not behind, and nobody refused."""
        self.turn_s = 0.0
        self.refused = 0.0

    def came(self, *, refused: bool) -> None:
        """A request came, and was let in or refused."""
        self.refused = _KEEP_SHARE * self.refused + (1.0 - _KEEP_SHARE) * refused

    def turned(self, turn_s: float) -> None:
        """The loop took `turn_s` for the turn in which somebody was refused."""
        self.turn_s = _KEEP * self.turn_s + (1.0 - _KEEP) * turn_s

    @property
    def delay_s(self) -> float:
        """Seconds for which to keep back a refusal."""
        if self.refused < _NEARLY_ALL:
            return 0.0
        return min(max(_TIMES * (self.turn_s - _BEHIND_S), 0.0), _MOST_S)

    def __repr__(self) -> str:
        return f"<Backoff turns of {1e3 * self.turn_s:.1f} ms, {self.refused:.2f} refused>"
