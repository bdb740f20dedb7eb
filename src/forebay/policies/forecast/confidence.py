"""How sure of a first token in time one has to be, to let a request in.

Whoever is refused is not served in time for certain. Whoever is let in and comes late costs the
others what it took of the engine, and that is something only where others would have had it. So the
surer one has to be the more of those who come find others waiting: with nobody, a request is let in
that makes it as likely as not; with all of them, one that makes it 99 times of 100, and with the
whole margin to spare.
"""

from __future__ import annotations

_KEEP = 0.9  # weight that earlier arrivals keep at each new one


class Confidence:
    """The share of those who came lately that found others waiting, whatever became of them."""

    def __init__(self) -> None:
        """Nobody has come, and nothing is known that would allow to be bold."""
        self.share = 1.0

    def came(self, *, others_wait: bool) -> None:
        """A request came."""
        self.share = _KEEP * self.share + (1.0 - _KEEP) * others_wait

    def __repr__(self) -> str:
        return f"<Caution {self.share:.2f}>"
