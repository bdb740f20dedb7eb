"""How long each part of a replica's start took, told by the replica itself.

Parts follow one another, so each lasts from the end of the one before. The node is counted from
when the autoscaler asked for the replica, which its log knows; a replica that nobody watched being
asked for, the first of a service say, has no such part: the autoscaler goes by `own_s` then.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

# In their order. node: from asking until the replica's process ran: a machine and its container
# image. image: the process's own packages. weights, compile, warm_up: the engine's; vLLM
# does not tell what it compiled while it loaded, so with it `weights` holds both. first_answer:
# from ready to the first token of a client's request, so that it says how long nobody asked.
PHASES = ("node", "image", "weights", "compile", "warm_up", "first_answer")
_OWN = ("image", "weights", "compile", "warm_up")


class StartClock:
    """Seconds of each phase of this process's start, as far as it has come."""

    def __init__(self, now: Callable[[], float] = time.time, began: float | None = None) -> None:
        """Begin when the process did.

        Args:
            now: seconds since 1970.
            began: when the start began; None: when this process was made.
        """
        self._now = now
        self.began = psutil.Process().create_time() if began is None else began
        self._at = self.began
        self.seconds: dict[str, float] = {}

    def done(self, phase: str) -> None:
        """This phase ends now."""
        at = self._now()
        self.seconds[phase] = max(at - self._at, 0.0)  # clocks may be stepped
        self._at = at

    @property
    def own_s(self) -> float:
        """Of the process itself: neither the wait for its node nor the one for a client."""
        return sum(self.seconds.get(phase, 0.0) for phase in _OWN)
