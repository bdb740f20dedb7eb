"""What this router itself sent to each replica of late, in seconds of the engine's work.

Whoever chooses by what replicas publish chooses by what was: half a second later a replica that
looked free is free no more, for all routers saw the same. What a router has sent it knows at once,
and its own sends are a fair sample of all, since the proxy asks routers in turn. Each router that
keeps its own sends even keeps the fleet even, without hearing of the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

_FADE_S = 20.0  # after which a send counts for 1/e; some turns of a conversation
_PRIOR = 3.0  # typical sends that every replica is thought to have had: few sends say little
_KEEP = 0.95  # weight that the typical send keeps at each send
# Work is estimated from rates seen while prompts queued, so 1.4 is said of a fleet at 80 % of what
# it can do; from three quarters more on it is flooded.
_FLOOD = 2.5
_MOST_BUSY = 0.65  # the estimate is rough, and near 1 a little more would mean everything


class RecentLoad:
    """Seconds of work sent to each replica, fading with their age."""

    def __init__(self) -> None:
        self._sent: dict[str, tuple[float, float]] = {}  # seconds of work, as of when
        self._typical = 0.0
        self._since: float | None = None

    def meet(self, replica: str, others: Iterable[str], now: float) -> None:
        """A replica joins: it counts as having been sent what the others were on average.

        As one that was sent nothing it would get all that comes until it has as much.
        """
        sent = [self.of(name, now) for name in others]
        self._sent[replica] = (sum(sent) / len(sent) if sent else 0.0, now)

    def add(self, replica: str, work_s: float, now: float) -> None:
        """So many seconds of work go there now."""
        if self._since is None:
            self._since = now
        self._sent[replica] = (self.of(replica, now) + work_s, now)
        self._typical = _KEEP * self._typical + (1.0 - _KEEP) * work_s if self._typical else work_s

    def of(self, replica: str, now: float) -> float:
        """Seconds of work that it was sent of late."""
        seconds, at = self._sent.get(replica, (0.0, now))
        return seconds * math.exp(-max(now - at, 0.0) / _FADE_S)

    def sent(self, replicas: Iterable[str], now: float) -> dict[str, float]:
        """Seconds of work that each of these was sent of late."""
        return {name: self.of(name, now) for name in replicas}

    def shares(self, sent: Mapping[str, float]) -> dict[str, float]:
        """What each was sent, over what these were sent on average; 1 where that is nothing."""
        prior = _PRIOR * self._typical
        mean = sum(sent.values()) / len(sent) + prior if sent else 0.0
        return {name: (seconds + prior) / mean if mean else 1.0 for name, seconds in sent.items()}

    def offered(self, sent: Mapping[str, float], routers: float, now: float) -> float:
        """Seconds of work a second that each of these is sent, if every router sends as much."""
        if self._since is None:
            return 0.0
        seen_s = _FADE_S * (1.0 - math.exp(-max(now - self._since, 1.0) / _FADE_S))
        return routers * sum(sent.values()) / len(sent) / seen_s if sent else 0.0

    def busy(
        self, sent: Mapping[str, float], routers: float, now: float, *, settled: bool = False
    ) -> float:
        """Share of their time for which these have work, as far as a prompt should go by it.

        Of a flood, more than they can do, ever less is said, down to nothing: most of it is
        refused, and what counts then is that every replica sees the same mix of tenants. With more
        said, one who always asks for the same prefix got half of a fleet of which it was owed a
        quarter. It is otherwise for a prompt that has its place (`settled`): conversations are in
        that mix already, and to scatter them halved what a flooded fleet got done.
        """
        offered = self.offered(sent, routers, now)
        if settled:
            return min(offered, _MOST_BUSY)
        return min(offered, max(min(_MOST_BUSY, _FLOOD - offered), 0.0))

    def forget(self, replica: str) -> None:
        """It is gone."""
        self._sent.pop(replica, None)

    def check_integrity(self) -> None:
        """Raise AssertionError when something is less than nothing."""
        assert all(seconds >= 0.0 for seconds, _ in self._sent.values())

    def __repr__(self) -> str:
        sent = {name: round(seconds, 2) for name, (seconds, _) in self._sent.items()}
        return f"<RecentLoad {sent}>"
