"""Ray Serve's own ways to place a request, as read in Ray 2.60.0, to compare with.

`RoundRobinRouter` (serve/experimental), `PowerOfTwoChoicesRequestRouter` (serve/_private) and
`PrefixCacheAffinityRouter` (llm/_internal/serve/routing_policies/prefix_aware), each with its
defaults. Ray's routers know how many requests a replica has from probes that they keep for up to
ten seconds; these here see the count as it is, which is kind to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from forebay.engine_model import block_name
from forebay.simulate.placing import Placed
from forebay.simulate.requests_and_outcomes import SimRequest
from forebay.simulate.simulated_replica import OpenReplica

_PIECE = 16  # tokens; Ray's tree goes by single characters
_LEAST_MATCH = 0.1  # of a prompt, `match_rate_threshold`


class RoundRobin:
    """One after the other."""

    def __init__(self) -> None:
        self._placed = 0

    def heard(self, replicas: Sequence[OpenReplica], now: float) -> None:
        """It listens to nobody."""

    def place(self, replicas: Sequence[OpenReplica], ask: SimRequest, now: float) -> Placed:
        """The next one."""
        self._placed += 1
        return Placed(replicas[self._placed % len(replicas)])


class PowerOfTwo:
    """Of two at random, the one with fewer requests."""

    def __init__(self, random: Callable[[], float]) -> None:
        """`random` returns values in [0, 1)."""
        self._random = random

    def heard(self, replicas: Sequence[OpenReplica], now: float) -> None:
        """Counts are seen as they are."""

    def place(self, replicas: Sequence[OpenReplica], ask: SimRequest, now: float) -> Placed:
        """The less busy one of the two drawn."""
        return Placed(self.among(replicas))

    def among(self, replicas: Sequence[OpenReplica]) -> OpenReplica:
        """See `place`."""
        first = int(self._random() * len(replicas))
        other = int(self._random() * (len(replicas) - 1)) if len(replicas) > 1 else 0
        second = other + (other >= first) if len(replicas) > 1 else first
        return min(replicas[first], replicas[second], key=lambda one: one.ongoing)


class PrefixAffinity:
    """Who was sent the longest part of the prompt; of several, the one with fewest requests.

    A prompt of which nobody has a tenth goes to whoever was sent least text so far. Ray falls back
    to two at random where queues differ by more than `imbalanced_threshold`, whose default is
    infinity: by default it never does.
    """

    def __init__(self) -> None:
        self._holders: dict[int, set[str]] = {}
        self._sent: dict[str, int] = {}

    def heard(self, replicas: Sequence[OpenReplica], now: float) -> None:
        """Its tree is its own."""

    def place(self, replicas: Sequence[OpenReplica], ask: SimRequest, now: float) -> Placed:
        """Where the prompt has its longest match, and note the send."""
        pieces = list(_pieces(ask.ids))
        names = self._matching(pieces, {one.name for one in replicas})
        if names is None:
            least = min(self._sent.get(one.name, 0) for one in replicas)
            names = {one.name for one in replicas if self._sent.get(one.name, 0) == least}
        chosen = min((one for one in replicas if one.name in names), key=lambda one: one.ongoing)
        self._note(chosen.name, pieces)
        return Placed(chosen)

    def _matching(self, pieces: Sequence[int], names: set[str]) -> set[str] | None:
        """Holders of the longest match; None where it is too short."""
        best: set[str] = set()
        matched = 0
        for piece in pieces:
            having = self._holders.get(piece, set()) & names
            if not having:
                break
            best, matched = having, matched + 1
        return best if pieces and matched >= _LEAST_MATCH * len(pieces) else None

    def _note(self, name: str, pieces: Sequence[int]) -> None:
        for piece in pieces:
            holders = self._holders.setdefault(piece, set())
            if name not in holders:
                holders.add(name)
                self._sent[name] = self._sent.get(name, 0) + _PIECE


def _pieces(ids: Sequence[int]) -> Iterator[int]:
    """Hashes of a prompt's whole pieces, chained."""
    link = 0
    for start in range(0, len(ids) - _PIECE + 1, _PIECE):
        link = block_name(link, tuple(ids[start : start + _PIECE]))
        yield link
