"""What one router knows of one replica: what it published, and what was sent to it since."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from forebay.policies.routing.prefix_yield import PrefixYield

_BYTES_PER_TOKEN = 4.0  # English under BPE vocabularies, until the replica has told its own
_MAX_SENDS = 4096  # remembered per replica; older ones are in its stats long since


@dataclass(frozen=True, slots=True)
class ReplicaStats:
    """What a replica publishes about itself.

    Attributes:
        sequence: counts up with every publication, so that a router sees a new one.
        wait_s: predicted seconds to first token of an empty prompt arriving now.
        prefill_rate: prompt tokens per second it drains; 0 while unknown.
        answer_s: seconds of its steps that a typical answer takes; 0 while unknown.
        held_s: seconds until it lets anybody in, where more answers at once would be too slow.
        ongoing: answers in its engine, running or queued, counted in typical ones of its own.
        overhead_s: the part of `wait_s` that is no queue, and stays when nothing comes.
        draining: whether it takes nothing new: it is about to stop, or its engine has died.
        bytes_per_token: bytes of prompt text per token, as it learned.
        kv_tokens: tokens its KV cache holds; 0 while unknown.
        context_tokens: most tokens of prompt and answer together; 0 while unknown.
        arrivals: requests that have reached it, from all routers.
        prompt_tokens: prompt tokens it has started.
        cached_tokens: those of them that were in its prefix cache.
    """

    sequence: int
    wait_s: float
    prefill_rate: float
    draining: bool = False
    overhead_s: float = 0.0
    bytes_per_token: float = _BYTES_PER_TOKEN
    kv_tokens: int = 0
    arrivals: float = 0.0
    prompt_tokens: float = 0.0
    cached_tokens: float = 0.0
    answer_s: float = 0.0
    held_s: float = 0.0
    ongoing: float = 0.0
    context_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Growth:
    """What came between two publications: requests from all routers, and from this one."""

    arrivals: float
    own: int


@dataclass(slots=True)
class ReplicaView:
    """One replica as one router sees it: a queue that drains by itself between publications.

    Attributes:
        seen_at: when its last publication, or at first itself, was seen, in seconds.
        period_s: seconds between publications.
        place: a hash of its name, by which conversations have their homes (`router_policy.py`).
        stats: what it published last; None before the first publication.
        hits: what promises of cached tokens are worth here.
    """

    seen_at: float
    period_s: float
    place: int = 0
    stats: ReplicaStats | None = None
    hits: PrefixYield = field(default_factory=PrefixYield)
    _free_at: float = 0.0
    _sends: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_MAX_SENDS))
    _own: int = 0

    @property
    def bytes_per_token(self) -> float:
        """The ratio that the replica learned."""
        return self.stats.bytes_per_token if self.stats is not None else _BYTES_PER_TOKEN

    @property
    def unseen(self) -> int:
        """Requests that this router sent there since it published."""
        return len(self._sends)

    def held_s(self, now: float) -> float:
        """Seconds until it lets anybody in, by what it published a period before it was seen."""
        if self.stats is None:
            return 0.0
        return max(self.stats.held_s - self.period_s - (now - self.seen_at), 0.0)

    def backlog_s(self, now: float) -> float:
        """Seconds of work that it has yet to do, as far as this router can tell."""
        return max(self._free_at - self._drained_until(now), 0.0)

    def overdue_s(self, now: float) -> float:
        """Seconds since its stats should have come."""
        return max(now - self.seen_at - 2 * self.period_s, 0.0)

    def _drained_until(self, now: float) -> float:
        """A replica that is not heard of is not thought to get on with its work either."""
        return min(now, self.seen_at + 2 * self.period_s)

    def send(self, work_s: float, now: float) -> None:
        """So many seconds of work go there now, all routers' share included."""
        self._sends.append((now, work_s))
        self._queue(work_s, now)
        self._own += 1

    def _queue(self, work_s: float, at: float) -> None:
        self._free_at = max(self._free_at, self._drained_until(at)) + work_s

    def take(self, stats: ReplicaStats, now: float) -> Growth:
        """Take a new publication, taken to have been made a period before it was seen.

        Sends from before it are in it; those since are queued behind what it says.
        """
        growth = self._growth(stats)
        self.stats, self.seen_at, self._own = stats, now, 0
        made_at = now - self.period_s
        while self._sends and self._sends[0][0] <= made_at:
            self._sends.popleft()
        self._free_at = made_at + max(stats.wait_s - stats.overhead_s, 0.0)
        for at, work_s in self._sends:
            self._queue(work_s, at)
        return growth

    def _growth(self, stats: ReplicaStats) -> Growth:
        before = self.stats
        if before is None:
            return Growth(0.0, 0)  # since when it counts is not known
        self.hits.observe(
            stats.prompt_tokens - before.prompt_tokens, stats.cached_tokens - before.cached_tokens
        )
        return Growth(max(stats.arrivals - before.arrivals, 0.0), self._own)
