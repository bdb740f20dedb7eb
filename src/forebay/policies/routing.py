"""Routing: the replica with the least predicted seconds to first token.

Every term is in seconds, so load, speed and cached prefixes need no weights: the backlog of a
replica (what it said a new arrival would wait, what was sent to it since, less the time gone by),
plus the part of the request's own prompt that it has not cached, over its own prefill rate. A hot
prefix spreads by itself: once the replica that has it would keep the request waiting longer than
another needs to compute it, the other gets it, and has it from then on.

Several routers read the same publications and do not hear of each other. Three rules keep them
from running to the same replica together, and from scattering conversations:

- A send that the others would make too, because the replica looks least loaded and not because the
  prompt belongs there, is counted as many times as there are routers (`other_routers.py`).
- No request is free, however much of it is cached.
- Predictions that differ by less than what is unknown of the others' sends count as equal, and
  among equals the prompt's home wins: a hash of the conversation, the same in every router, so that
  its turns meet again whichever router they come through. (A router that is alone has sent every
  turn itself. It prefers the replica that has the least left to compute.)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b

from forebay.policies.other_routers import OtherRouters
from forebay.policies.prefix_index import PrefixIndex, chunk_end
from forebay.policies.replica_view import ReplicaStats, ReplicaView

_STALE_PENALTY = 0.5  # seconds of assumed wait for every second that stats are overdue
_SILENT_PERIODS = 8  # 4 s at two publications a second; Serve's health check takes about 6 s
_UNSEEN_PERIODS = 1.5  # a publication is one period old when it is seen and two when it is replaced
# CPU time of a replica's front end for any request, cached or not: 6.4 ms measured on Ray 2.60
# with vLLM 0.29. It is one process, so that requests queue for it.
_REQUEST_S = 0.006
# Predictions closer than this are equal: about one engine step, and a tenth of what is predicted.
_CLOSE_S = 0.02
_CLOSE_SHARE = 0.1
_WORD = 2**64 - 1
_SESSIONS = 16_384  # remembered, a few MB


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a router knows of a prompt.

    Attributes:
        size: bytes of prompt text.
        chunks: hashes of its head, chained (`prefix_index.chunk_hashes`).
        home: a hash that the turns of a conversation have in common, 64 bits; 0 for none.
        session: a hash of the session that the client named, 64 bits; 0 for none.
    """

    size: int
    chunks: tuple[int, ...] = ()
    home: int = 0
    session: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a prompt goes, and how many of its tokens are expected to be cached there."""

    replica: str
    cached_tokens: int


class RoutingPolicy:
    """Least predicted seconds to first token, over what each replica probably has cached."""

    def __init__(
        self,
        period_s: float,
        random: Callable[[], float],
        routers: int = 1,
        default_rate: float = 10_000.0,
    ) -> None:
        """Start knowing no replica.

        Args:
            period_s: seconds between a replica's publications.
            random: returns values in [0, 1); chooses among equals for prompts without a home.
            routers: how many routers there are; what replicas count corrects it.
            default_rate: prefill rate assumed while no replica has told its own, tokens/s.
        """
        self._period_s = period_s
        self._random = random
        self._typical_rate = default_rate  # the last that any replica told
        self._others = OtherRouters(routers, _UNSEEN_PERIODS * period_s)
        self._views: dict[str, ReplicaView] = {}
        self._index = PrefixIndex()
        self._sessions: OrderedDict[int, tuple[str, int]] = OrderedDict()

    def publish(self, replica_id: str, stats: ReplicaStats, now: float) -> None:
        """Take a replica's stats as seen at `now`; the same publication twice changes nothing."""
        view = self._view(replica_id, now)
        before = view.stats
        if before is not None and stats.sequence == before.sequence:
            return
        if stats.draining or (before is not None and stats.sequence < before.sequence):
            self._index.forget(replica_id)  # a lower number: it started anew under its old name
        self._others.observe(view.take(stats, now))
        self._typical_rate = stats.prefill_rate or self._typical_rate
        if stats.kv_tokens and not stats.draining:
            self._index.resize(replica_id, stats.kv_tokens * stats.bytes_per_token)

    def retain(self, replica_ids: Iterable[str]) -> None:
        """Forget replicas that are gone."""
        for replica_id in self._views.keys() - set(replica_ids):
            del self._views[replica_id]
            self._index.forget(replica_id)

    def predicted_s(self, replica_id: str, prompt: Prompt, now: float) -> float:
        """Predicted seconds to first token of a prompt that goes to this replica."""
        cached = self._index.match(prompt.chunks).get(replica_id, 0)
        return self._predicted_s(self._view(replica_id, now), prompt, cached, now)

    def _predicted_s(self, view: ReplicaView, prompt: Prompt, cached: int, now: float) -> float:
        overhead = view.stats.overhead_s if view.stats is not None else 0.0
        waiting = overhead + view.backlog_s(now) + view.overdue_s(now) * _STALE_PENALTY
        return waiting + self._work_s(view, prompt, cached)

    def _work_s(self, view: ReplicaView, prompt: Prompt, cached: int) -> float:
        """Seconds that the prompt keeps a replica busy until its first token."""
        told = view.stats.prefill_rate if view.stats is not None else 0.0
        hits = min(cached, prompt.size) * view.hits.value
        uncached = max((prompt.size - hits) / view.bytes_per_token, 1.0)
        return uncached / (told or self._typical_rate) + _REQUEST_S

    def choose(self, candidates: list[str], prompt: Prompt, now: float) -> str:
        """The replica that `place` picks."""
        return self.place(candidates, prompt, now).replica

    def place(self, candidates: list[str], prompt: Prompt, now: float) -> Placement:
        """Pick a replica and remember the send.

        Replicas that drain, or have not been heard of for long, are passed over unless all are.

        Raises:
            ValueError: no candidates.
        """
        if not candidates:
            raise ValueError("no replica to choose from")
        views = {name: self._view(name, now) for name in candidates}
        open_ones = [n for n, v in views.items() if self._is_open(v, now)] or candidates
        home = self._home(prompt, open_ones)
        cached = self._cached(prompt)
        predicted = {
            name: self._predicted_s(views[name], prompt, cached.get(name, 0), now)
            for name in open_ones
        }
        chosen = self._among(self._least(predicted, now), prompt, cached, home)
        belongs = chosen == home or _has_most(chosen, cached)
        self._remember(chosen, prompt, cached.get(chosen, 0), belongs, now)
        view = views[chosen]
        hits = min(cached.get(chosen, 0), prompt.size) * view.hits.value
        return Placement(chosen, int(hits / view.bytes_per_token))

    def _is_open(self, view: ReplicaView, now: float) -> bool:
        if view.stats is None:
            return True  # it has just started
        return not view.stats.draining and now - view.seen_at <= _SILENT_PERIODS * self._period_s

    def _home(self, prompt: Prompt, names: list[str]) -> str | None:
        """Where a conversation belongs: rendezvous hashing, the same in every router."""
        conversation = prompt.session or prompt.home
        if not conversation:
            return None
        return max(names, key=lambda name: _mixed(conversation ^ self._views[name].place))

    def _cached(self, prompt: Prompt) -> dict[str, int]:
        """Bytes of the prompt that replicas are expected to have cached."""
        cached = self._index.match(prompt.chunks)
        # Where the session's last prompt went is a hint: it counts beyond what was read of this
        # one, if that agrees with it.
        name, size = self._sessions.get(prompt.session, ("", 0))
        read = chunk_end(len(prompt.chunks) - 1)
        if name in self._views and cached.get(name, 0) == read:
            cached[name] = max(read, min(size, prompt.size))
        return cached

    def _least(self, predicted: dict[str, float], now: float) -> list[str]:
        """The replicas of which none is known to be faster than the others."""
        least = min(predicted.values())
        blur = self._others.blur_s(len(predicted), now)
        limit = least + max(_CLOSE_S, least * _CLOSE_SHARE, blur)
        return [name for name, seconds in predicted.items() if seconds <= limit]

    def _among(
        self, equals: list[str], prompt: Prompt, cached: dict[str, int], home: str | None
    ) -> str:
        """One of the equals; for one conversation always the same one, if it can."""
        if home in equals and self._others.exist:
            return home
        work = {n: self._work_s(self._views[n], prompt, cached.get(n, 0)) for n in equals}
        limit = min(work.values()) + _CLOSE_S
        least = [name for name in equals if work[name] <= limit]
        return self._home(prompt, least) or least[int(self._random() * len(least))]

    def _remember(
        self, chosen: str, prompt: Prompt, cached: int, belongs: bool, now: float
    ) -> None:
        view = self._views[chosen]
        work_s = self._work_s(view, prompt, cached)
        self._others.send(work_s, now)
        view.send(work_s * (1.0 if belongs else self._others.scale), now)
        ratio = view.bytes_per_token
        view.hits.send(prompt.size / ratio, min(cached, prompt.size) / ratio)
        if view.stats is None or not view.stats.draining:
            self._index.record(chosen, prompt.chunks)
        if prompt.session:
            self._sessions[prompt.session] = (chosen, prompt.size)
            self._sessions.move_to_end(prompt.session)
            if len(self._sessions) > _SESSIONS:
                self._sessions.popitem(last=False)

    def _view(self, replica_id: str, now: float) -> ReplicaView:
        if replica_id not in self._views:
            digest = blake2b(replica_id.encode(), digest_size=8).digest()
            place = int.from_bytes(digest, "little")
            self._views[replica_id] = ReplicaView(now, self._period_s, place)
        return self._views[replica_id]

    def check_integrity(self) -> None:
        """Raise AssertionError unless every part of the state agrees with the others."""
        self._index.check_integrity()
        assert len(self._sessions) <= _SESSIONS
        for view in self._views.values():
            assert 0.0 <= view.hits.value <= 1.0

    def __repr__(self) -> str:
        waits = {n: round(v.stats.wait_s, 3) for n, v in self._views.items() if v.stats}
        return f"<RoutingPolicy waits {waits}, {self._index}>"


def _has_most(name: str, cached: dict[str, int]) -> bool:
    """Whether a replica has more of the prompt than any other."""
    mine = cached.get(name, 0)
    return all(size < mine for other, size in cached.items() if other != name) and mine > 0


def _mixed(value: int) -> int:
    """Spread 64 bits evenly, so that no order among the values survives (as splitmix64 ends)."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _WORD
    return value ^ (value >> 31)
