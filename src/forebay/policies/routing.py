"""Routing: the replica with the least predicted seconds to first token.

Every term is in seconds, so load and speed need no weights and no thresholds: what a replica says
a new arrival would wait, plus the prompts sent to it since it said so, plus the request's own
prompt, each over that replica's own prefill rate.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

_STALE_PENALTY = 0.5  # seconds of assumed wait for every second that stats are overdue
_MAX_DELTAS = 4096  # sends remembered per replica; older ones are in its stats long since


@dataclass(frozen=True, slots=True)
class ReplicaStats:
    """What a replica publishes about itself.

    Attributes:
        sequence: counts up with every publication, so that a router sees a new one.
        wait_s: predicted seconds to first token of an empty prompt arriving now.
        prefill_rate: prompt tokens per second it drains; 0 while unknown.
        draining: whether it takes nothing new.
    """

    sequence: int
    wait_s: float
    prefill_rate: float
    draining: bool = False


@dataclass(slots=True)
class _View:
    stats: ReplicaStats
    seen_at: float
    deltas: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_MAX_DELTAS))

    def sent_since(self) -> int:
        return sum(tokens for _, tokens in self.deltas)


class RoutingPolicy:
    """Least predicted seconds to first token, with optimistic local deltas between publications."""

    def __init__(self, period_s: float, default_rate: float = 10_000.0) -> None:
        """Expect stats every `period_s`; price prompts at `default_rate` tokens/s until known."""
        self._period_s = period_s
        self._default_rate = default_rate
        self._views: dict[str, _View] = {}
        self._turn = 0

    def publish(self, replica_id: str, stats: ReplicaStats, now: float) -> None:
        """Take a replica's stats as seen at `now`; the same publication twice changes nothing."""
        view = self._views.get(replica_id)
        if view is None:
            self._views[replica_id] = _View(stats, now)
        elif stats.sequence != view.stats.sequence:
            # Sends from before the publication was made are in it; it was made up to a period ago.
            while view.deltas and view.deltas[0][0] <= now - self._period_s:
                view.deltas.popleft()
            view.stats, view.seen_at = stats, now

    def retain(self, replica_ids: Iterable[str]) -> None:
        """Forget replicas that are gone."""
        keep = set(replica_ids)
        for replica_id in self._views.keys() - keep:
            del self._views[replica_id]

    def predicted_s(self, replica_id: str, prompt_tokens: int, now: float) -> float:
        """Predicted seconds to first token of `prompt_tokens` on a replica; its own if unknown."""
        view = self._views.get(replica_id)
        if view is None:
            return prompt_tokens / self._default_rate
        rate = view.stats.prefill_rate or self._default_rate
        overdue = max(now - view.seen_at - 2 * self._period_s, 0.0)
        waiting = view.stats.wait_s + overdue * _STALE_PENALTY
        return waiting + (view.sent_since() + prompt_tokens) / rate

    def choose(self, candidates: list[str], prompt_tokens: int, now: float) -> str:
        """Pick a replica and remember the send.

        Draining replicas are passed over unless all are. Equal predictions take turns.

        Raises:
            ValueError: no candidates.
        """
        if not candidates:
            raise ValueError("no replica to choose from")
        open_ones = [c for c in candidates if not self._draining(c)] or candidates
        self._turn += 1
        start = self._turn % len(open_ones)
        ordered = open_ones[start:] + open_ones[:start]
        chosen = min(ordered, key=lambda c: self.predicted_s(c, prompt_tokens, now))
        if (view := self._views.get(chosen)) is not None:
            view.deltas.append((now, prompt_tokens))
        return chosen

    def _draining(self, replica_id: str) -> bool:
        view = self._views.get(replica_id)
        return view is not None and view.stats.draining

    def __repr__(self) -> str:
        waits = {name: round(view.stats.wait_s, 3) for name, view in self._views.items()}
        return f"<RoutingPolicy {waits}>"
