"""Routing: the replica where a prompt costs least, its own wait and everybody else's.

Every term is in seconds. A prompt waits for what a replica has to do first (what it said a new
arrival would wait, what was sent to it since, less the time gone by) and for its own part that is
not cached there, over the replica's own prefill rate. That much is its predicted time to first
token. But an engine computes what it has side by side, so work that is done twice, because a prompt
went where its prefix was not, delays all that run there. In a server that shares its time like
that, of which a share `busy` is in use, a second of work takes 1 / (1 - busy) seconds, and adds
1 / (1 - busy)^2 to the times of all together. So work counts by that factor, and by more where a
replica was sent more than others of late (`recent_load.py`) or has more answers (`load_skew.py`):
where there is plenty of room the first token decides, under load it is what the fleet computes in
all, and how evenly. (Not in a flood, far beyond what replicas can do: see
`RoutingPolicy._myopic`.)

A conversation stays where its last turn was (`session_affinity.py`) unless that costs several times
as much; one that begins brings its later turns along, and is what the load is evened out with. A
hot prefix spreads by itself: once the replica that has it has had more than its share, another gets
it.

Several routers read the same publications and do not hear of each other. What they go by is mostly
what they sent themselves, which no other router repeats; three more rules keep them from running to
the same replica together, and from scattering conversations:

- A send that the others would make too, because the replica looks least loaded and not because the
  prompt belongs there, is counted as many times as there are routers (`other_routers.py`).
- No request is free, however much of it is cached.
- Prices that differ by less than what is unknown of the others' sends count as equal, and a
  conversation that this router does not know belongs to its home: a hash of it, the same in every
  router, so that its turns meet again whichever router they come through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b

from forebay.policies.routing.load_skew import skew
from forebay.policies.routing.other_routers import OtherRouters
from forebay.policies.routing.prefix_index import PrefixIndex, chunk_end, whole_chunks
from forebay.policies.routing.recent_load import RecentLoad
from forebay.policies.routing.replica_view import ReplicaStats, ReplicaView
from forebay.policies.routing.session_affinity import LastTurn, SessionAffinity

_STALE_PENALTY = 0.5  # seconds of assumed wait for every second that stats are overdue
_SILENT_PERIODS = 8  # 4 s at two publications a second; Serve's health check takes about 6 s
_UNSEEN_PERIODS = 1.5  # a publication is one period old when it is seen and two when it is replaced
# CPU time of a replica's front end for any request, cached or not: 6.4 ms measured on Ray 2.60
# with vLLM 0.29. It is one process, so that requests queue for it.
_REQUEST_S = 0.006
_CLOSE_SHARE = 0.02  # prices closer than this are equal
_CLOSE_S = 0.05  # with several routers also these: turns should meet at home
# Found in virtual time (record 0011), and flat around these values.
_EVEN = 3.0  # power of a replica's share of the load, sent and running, by which it costs more
_CROWDED = 3.0  # power of 1 / (1 - busy); 2 is theory's, for servers without batches
_STAYS = 3.0  # times the least price that a conversation's last replica may cost
# In a flood, and before anything was sent, also these: about one engine step, and a tenth.
_STEP_S, _STEP_SHARE = 0.02, 0.1
_LONGEST = 2.0  # contexts; what seems longer is, however many bytes its tokens have
_WORD = 2**64 - 1


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


@dataclass(frozen=True, slots=True)
class _Choice:
    """What one decision goes by, for each replica that is open: see `RoutingPolicy._choice`."""

    waits: dict[str, float]
    works: dict[str, float]
    factors: dict[str, float]
    belongs: str | None
    close_s: float  # differences that say nothing

    def price(self, name: str) -> float:
        """Seconds, of this request and of all that it delays."""
        stays = _STAYS if name == self.belongs else 1.0
        return self.waits[name] + self.works[name] * self.factors[name] / stays


class RoutingPolicy:
    """Least seconds for all, over what each replica probably has cached."""

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
        # The last that any replica told, for those that have not.
        self._typical_rate, self._typical_answer_s = default_rate, 0.0
        self._context_tokens = math.inf
        self._others = OtherRouters(routers, _UNSEEN_PERIODS * period_s)
        self._views: dict[str, ReplicaView] = {}
        self._index = PrefixIndex()
        self._conversations = SessionAffinity()
        self._load = RecentLoad()

    def publish(self, replica_id: str, stats: ReplicaStats, now: float) -> None:
        """Take a replica's stats as seen at `now`; the same publication twice changes nothing."""
        view = self._view(replica_id, now)
        before = view.stats
        if before is not None and stats.sequence == before.sequence:
            return
        drains = stats.draining and not (before is not None and before.draining)
        if drains or (before is not None and stats.sequence < before.sequence):
            self._forget(replica_id)  # a lower number: it started anew under its old name
        self._others.observe(view.take(stats, now))
        self._typical_rate = stats.prefill_rate or self._typical_rate
        self._typical_answer_s = stats.answer_s or self._typical_answer_s
        self._context_tokens = stats.context_tokens or self._context_tokens
        if stats.kv_tokens and not stats.draining:
            self._index.resize(replica_id, stats.kv_tokens * stats.bytes_per_token)

    def retain(self, replica_ids: Iterable[str]) -> None:
        """Forget replicas that are gone."""
        for replica_id in self._views.keys() - set(replica_ids):
            del self._views[replica_id]
            self._load.forget(replica_id)
            self._forget(replica_id)

    def _forget(self, replica_id: str) -> None:
        """Nothing is expected to be cached there any more."""
        self._index.forget(replica_id)
        self._conversations.forget(replica_id)

    def predicted_s(self, replica_id: str, prompt: Prompt, now: float) -> float:
        """Predicted seconds to first token of a prompt that goes to this replica."""
        cached = self._index.match(prompt.chunks).get(replica_id, 0)
        return self._predicted_s(self._view(replica_id, now), prompt, cached, now)

    def _predicted_s(self, view: ReplicaView, prompt: Prompt, cached: int, now: float) -> float:
        hits = min(cached, prompt.size) * view.hits.value
        overhead = view.stats.overhead_s if view.stats is not None else 0.0
        return overhead + self._queue_s(view, now) + self._work_s(view, prompt.size - hits)

    def _queue_s(self, view: ReplicaView, now: float) -> float:
        """Seconds until a replica begins with what is sent to it now.

        Without the part of its wait that is no queue, an upper quantile of its errors: that differs
        between replicas by more than there is to choose between them.
        """
        return view.backlog_s(now) + view.overdue_s(now) * _STALE_PENALTY

    def _work_s(self, view: ReplicaView, uncached: float) -> float:
        """Seconds that so many bytes of a prompt keep a replica busy until its first token."""
        told = view.stats.prefill_rate if view.stats is not None else 0.0
        tokens = max(self._tokens(view, uncached), 1.0)
        return tokens / (told or self._typical_rate) + _REQUEST_S

    def _tokens(self, view: ReplicaView, size: float) -> float:
        """Tokens that a replica computes of so many bytes: what no context holds it refuses."""
        tokens = size / view.bytes_per_token
        if tokens > _LONGEST * self._context_tokens:
            return 0.0
        return min(tokens, self._context_tokens)

    def _answer_s(self, view: ReplicaView) -> float:
        """Seconds of its steps that a typical answer takes; 0 while unknown."""
        told = view.stats.answer_s if view.stats is not None else 0.0
        return told or self._typical_answer_s

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
        cached = self._cached(prompt)
        choice = self._choice(open_ones, prompt, cached, now)
        prices = {name: choice.price(name) for name in open_ones}
        chosen = self._among(self._least(prices, choice.close_s, now), choice, prompt)
        belongs = chosen == choice.belongs or _has_most(chosen, cached)
        hits = min(cached.get(chosen, 0), prompt.size) * views[chosen].hits.value
        self._remember(chosen, prompt, cached.get(chosen, 0), belongs, now)
        return Placement(chosen, int(hits / views[chosen].bytes_per_token))

    def _choice(
        self, names: list[str], prompt: Prompt, cached: dict[str, int], now: float
    ) -> _Choice:
        """What to go by.

        Promises count in full here, though some are not kept: where tenants' caches are kept apart,
        half of a prefix's promises may be worth nothing, and less the more replicas it is spread
        over; to spread it further on that account would make it so.
        """
        belongs = self._belonging(prompt, names, cached)
        sent = self._load.sent(names, now)
        shares = self._load.shares(sent)
        settled = belongs is not None and not self._others.exist
        busy = self._load.busy(sent, self._others.scale, now, settled=settled)
        if not busy:
            return self._myopic(names, prompt, cached, now)
        crowd = skew({name: self._views[name] for name in names}, self._others.scale)
        waits, works, factors = {}, {}, {}
        for name in names:
            view = self._views[name]
            waits[name] = self._queue_s(view, now) + view.held_s(now)
            uncached = self._work_s(view, prompt.size - min(cached.get(name, 0), prompt.size))
            works[name] = uncached + self._answer_s(view)
            uneven = (shares[name] * crowd[name]) ** _EVEN
            factors[name] = uneven / (1.0 - busy) ** _CROWDED
        return _Choice(waits, works, factors, belongs, 0.0)

    def _myopic(
        self, names: list[str], prompt: Prompt, cached: dict[str, int], now: float
    ) -> _Choice:
        """The first token alone, to about an engine step: in a flood, or before anything was sent.

        Of a flood most is refused whatever is cached. What counts is that every replica has the
        same mix of tenants: one who always asks for the same prefix would get more of the few
        replicas that have it than it is owed of the fleet.
        """
        waits, works = {}, {}
        for name in names:
            view = self._views[name]
            hits = min(cached.get(name, 0), prompt.size) * view.hits.value
            works[name] = self._work_s(view, prompt.size - hits)
            waits[name] = self._predicted_s(view, prompt, cached.get(name, 0), now) - works[name]
        belongs = self._home(prompt, names) if self._others.exist else None
        least = min(waits[name] + works[name] for name in names)
        close_s = max(_STEP_S, least * _STEP_SHARE)
        return _Choice(waits, works, dict.fromkeys(names, 1.0), belongs, close_s)

    def _belonging(self, prompt: Prompt, names: list[str], cached: dict[str, int]) -> str | None:
        """Where a conversation's next turn should go, if anywhere.

        Of several routers each knows only some of the turns; the home they all know.
        """
        if self._others.exist:
            return self._home(prompt, names)
        last = self._conversations.last(prompt.session or prompt.home)
        if last is None or last.replica not in names or not _agrees(prompt, last, cached):
            return None
        return last.replica

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
        last = self._conversations.last(prompt.session)
        read = chunk_end(len(prompt.chunks) - 1)
        there = last is not None and 0 < read == cached.get(last.replica, 0)
        if last is not None and there and last.replica in self._views:
            cached[last.replica] = max(read, min(last.size, prompt.size))
        return cached

    def _least(self, prices: dict[str, float], close_s: float, now: float) -> list[str]:
        """The replicas of which none is known to be better than the others."""
        least = min(prices.values())
        close = max(least * _CLOSE_SHARE, close_s, self._others.blur_s(len(prices), now))
        if self._others.exist:
            close = max(close, _CLOSE_S)
        limit = least + close
        return [name for name, seconds in prices.items() if seconds <= limit]

    def _among(self, equals: list[str], choice: _Choice, prompt: Prompt) -> str:
        """One of the equals; for one conversation always the same one, if it can."""
        if choice.belongs in equals:
            return choice.belongs
        least = min(choice.works[name] for name in equals)
        limit = least + max(least * _CLOSE_SHARE, min(choice.close_s, _STEP_S))
        best = [name for name in equals if choice.works[name] <= limit]
        return self._home(prompt, best) or best[int(self._random() * len(best))]

    def _remember(
        self, chosen: str, prompt: Prompt, cached: int, belongs: bool, now: float
    ) -> None:
        view = self._views[chosen]
        promised = min(cached, prompt.size)
        work_s = self._work_s(view, prompt.size - promised * view.hits.value)
        self._load.add(chosen, work_s + self._answer_s(view), now)
        self._others.send(work_s, now)
        view.send(work_s * (1.0 if belongs else self._others.scale), now)
        tokens = self._tokens(view, prompt.size)
        view.hits.send(tokens, min(promised / view.bytes_per_token, tokens))
        if view.stats is None or not view.stats.draining:
            self._index.record(chosen, prompt.chunks)
            self._conversations.note(prompt.session or prompt.home, chosen, prompt.size)

    def _view(self, replica_id: str, now: float) -> ReplicaView:
        if replica_id not in self._views:
            digest = blake2b(replica_id.encode(), digest_size=8).digest()
            place = int.from_bytes(digest, "little")
            others = [name for name, view in self._views.items() if self._is_open(view, now)]
            self._load.meet(replica_id, others, now)
            self._views[replica_id] = ReplicaView(now, self._period_s, place)
        return self._views[replica_id]

    def check_integrity(self) -> None:
        """Raise AssertionError unless every part of the state agrees with the others."""
        self._index.check_integrity()
        self._conversations.check_integrity()
        self._load.check_integrity()
        for view in self._views.values():
            assert 0.0 <= view.hits.value <= 1.0

    def __repr__(self) -> str:
        waits = {n: round(v.stats.wait_s, 3) for n, v in self._views.items() if v.stats}
        return f"<RoutingPolicy waits {waits}, {self._index}>"


def _agrees(prompt: Prompt, last: LastTurn, cached: dict[str, int]) -> bool:
    """Whether a prompt, as far as it was read, goes on from the last turn."""
    common = min(whole_chunks(last.size), chunk_end(len(prompt.chunks) - 1))
    return cached.get(last.replica, 0) >= common


def _has_most(name: str, cached: dict[str, int]) -> bool:
    """Whether a replica has more of the prompt than any other."""
    mine = cached.get(name, 0)
    return all(size < mine for other, size in cached.items() if other != name) and mine > 0


def _mixed(value: int) -> int:
    """Spread 64 bits evenly, so that no order among the values survives (as splitmix64 ends)."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _WORD
    return value ^ (value >> 31)
