"""From what replicas count to what the fleet was asked for: rates, backlog, capacity.

Replicas count up; the meter takes differences, so a report that comes late or not at all moves
demand by a moment and loses none, unless it comes very late: then it tells a rate. A replica that
appears while the meter watches has counted from nothing; one that was there before it began, or has
reported for longer than it was seen, only gives a mark to count from. One that counts less than
before has started anew under its old name. What a new replica expects of answers is not taken from
it, but from those that have seen some. Who is not ready for a while, as all are not while
Serve's controller starts anew, is not forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from math import isfinite, isnan, nan
from statistics import fmean, pstdev

from forebay.policies.scaling.sizing import Capacity, ColdStart, Demand, Observation

SILENT_S = 10.0  # without a report, a replica is not seen
_STARTS = 10  # remembered
_REMEMBERED_S = 600.0  # a replica that is not ready
_NEW_REPORTS = 15  # one a second, after which a replica is not new
_LATE_S = 3.0  # a report may be, for all of it to count at once
_OVERDUE = 3.0  # x the longest start seen
_LEARNING = 60  # reports in which a new replica learns how long answers are
_USUAL_KEEP = 0.98  # of what is known of answers, at each look with more of it
_SEEN_SHARE = 0.5  # of the ready replicas, below which the fleet is not seen


@dataclass(frozen=True, slots=True)
class ReplicaReading:
    """What a replica reports. All are floats, since Ray carries nothing else.

    Attributes:
        sequence: counts up with every report.
        offered_prefill: prompt tokens offered since its start, without what is cached, a tenant's
            demand above its quota, and repeats of what was refused.
        offered_decode: output tokens expected of the same requests.
        offered_kv_s: tokens of KV cache x seconds for which the same requests would hold them.
        queued_prefill, queued_decode: tokens that wait.
        prefill_rate, decode_rate: tokens/s that it manages when it does nothing else; 0 while
            unknown.
        kv_tokens: that its cache holds.
        offered_sequences: answers that were asked for by the requests counted above.
        start_s: seconds from the start of its process until it served; 0 while unknown.
    """

    sequence: float
    offered_prefill: float
    offered_decode: float
    offered_kv_s: float
    queued_prefill: float
    queued_decode: float
    prefill_rate: float
    decode_rate: float
    kv_tokens: float
    offered_sequences: float = 0.0
    start_s: float = 0.0

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The fields, in order."""
        return tuple(field.name for field in fields(cls))


@dataclass(frozen=True, slots=True)
class _Asked:
    """A replica that is not ready.

    Attributes:
        at: when it was asked for; NaN: before anybody looked.
        most_s: the most that a start had taken then.
        seen_at: since when it is known to be on its way.
    """

    at: float
    most_s: float
    seen_at: float


class StartTimes:
    """How long replicas take from being asked for to serving, nodes and images included.

    Which of those asked for has become ready does not matter: they are taken in order. Of one that
    was asked for before the first look, as the first of a service always is, nobody knows when: its
    start is what it tells itself, without the wait for its node.

    One that waited hours for a GPU must not make floors begin hours early and silence `overdue` for
    the next ten: a start counts for no more than would have made it overdue, by what was known when
    it was asked for or by the starts since that counted in full. So several that wait for the same
    GPU count for that much and no more, and a pool that has become slower is known, three times as
    slow with each that is asked for. What was assumed is as good as known, but for the first start
    of all where it is the replica's own, which holds no wait.
    """

    def __init__(self, assumed_s: float = 60.0) -> None:
        """Assume a start of so many seconds until one has been seen."""
        self.assumed_s = assumed_s
        self._asked: list[_Asked] | None = None  # oldest first
        self._ready: dict[str, float] = {}  # when each was last seen to be
        self._untold: set[str] = set()  # ready, and of unknown start until they tell theirs
        self.seconds: deque[float] = deque(maxlen=_STARTS)
        self._in_full: deque[float] = deque(maxlen=_STARTS)  # of these, those that are not cut

    def look(
        self,
        ready: Collection[str],
        target: int,
        now: float,
        told: Mapping[str, float] | None = None,
    ) -> None:
        """These replicas are ready, of `target`, at `now`; some have `told` how long they took.

        Since when those are asked for that were on their way at the first look, nobody knows.
        """
        starting = max(target - len(ready), 0)
        if self._asked is None:
            self._asked = [_Asked(nan, 0.0, now)] * starting
            self._ready = dict.fromkeys(ready, now)
            self._untold = set(ready)
        came = sorted(set(ready) - self._ready.keys())
        for name, asked in zip(came, self._asked, strict=False):
            if isnan(asked.at):
                self._untold.add(name)
            else:
                self._took(now - asked.at, asked.most_s)
        self._asked = self._asked[len(came) :][:starting]
        more = starting - len(self._asked)
        self._asked += [_Asked(now, self.cold_start.most_s, now)] * more
        self._hear(told or {})
        self._ready |= dict.fromkeys(ready, now)
        self._ready = {n: at for n, at in self._ready.items() if now - at <= _REMEMBERED_S}
        self._untold &= self._ready.keys()

    def _hear(self, told: Mapping[str, float]) -> None:
        """What replicas of unknown start tell of theirs: a report comes after the replica."""
        heard = [name for name in self._untold if told.get(name)]
        for seconds in sorted(told[name] for name in heard):
            self._took(seconds, 0.0 if self.seconds else seconds)
        self._untold.difference_update(heard)

    def _took(self, seconds: float, most_s: float) -> None:
        """A start, of a replica that was asked for when none had taken longer than `most_s`."""
        most_s = _OVERDUE * max(most_s, self.assumed_s, *self._in_full)
        if seconds <= most_s:
            self._in_full.append(seconds)
        self.seconds.append(min(seconds, most_s))

    @property
    def cold_start(self) -> ColdStart:
        """Of the replicas that were seen to start, the last ten."""
        if not self.seconds:
            return ColdStart(self.assumed_s)
        return ColdStart(fmean(self.seconds), pstdev(self.seconds), max(self.seconds))

    def waiting_since(self, before: float) -> int:
        """Replicas that were asked for before then, as far as is known, and are not ready yet."""
        return sum(asked.seen_at < before for asked in self._asked or ())


@dataclass(frozen=True, slots=True)
class Offered:
    """What was offered between two reports: tokens, tokens x seconds, answers."""

    prefill: float = 0.0
    decode: float = 0.0
    kv_s: float = 0.0
    sequences: float = 0.0

    def __add__(self, other: Offered) -> Offered:
        return Offered(
            self.prefill + other.prefill,
            self.decode + other.decode,
            self.kv_s + other.kv_s,
            self.sequences + other.sequences,
        )

    @classmethod
    def between(cls, before: ReplicaReading | None, now: ReplicaReading, share: float) -> Offered:
        """A share of what `now` has counted since `before`; since its start, where that is None."""
        return cls(
            share * (now.offered_prefill - (before.offered_prefill if before else 0.0)),
            share * (now.offered_decode - (before.offered_decode if before else 0.0)),
            share * (now.offered_kv_s - (before.offered_kv_s if before else 0.0)),
            share * (now.offered_sequences - (before.offered_sequences if before else 0.0)),
        )


class UsualAnswers:
    """What an answer comes to where some have been seen, for those who have seen none.

    Until it knows better, a replica takes answers to be as long as its file says by default
    (`CostModel.likely`). The rest of the fleet knows what they are here.
    """

    def __init__(self) -> None:
        self._decode = self._kv_s = self._sequences = 0.0

    def learn(self, offered: Offered) -> None:
        """This was offered to replicas that know answers."""
        if offered.sequences > 0.0:
            self._decode = _USUAL_KEEP * self._decode + offered.decode
            self._kv_s = _USUAL_KEEP * self._kv_s + offered.kv_s
            self._sequences = _USUAL_KEEP * self._sequences + offered.sequences

    def corrected(self, offered: Offered) -> Offered:
        """The same with usual answers; as it is told while none are known."""
        if not self._sequences or offered.sequences <= 0.0:
            return offered
        share = offered.sequences / self._sequences
        return replace(offered, decode=share * self._decode, kv_s=share * self._kv_s)


@dataclass(slots=True)
class _Known:
    reading: ReplicaReading
    heard_at: float


class DemandMeter:
    """Readings of a fleet over time."""

    def __init__(self, declared: Capacity | None = None, cold_start_s: float = 60.0) -> None:
        """Know no replica.

        Args:
            declared: capacity of a replica, where the user says it; else it is learned. With an
                infinite `kv`, what the caches hold is what replicas tell.
            cold_start_s: assumed until a start has been seen.
        """
        self._declared = declared
        self._starts = StartTimes(cold_start_s)
        self._known: dict[str, _Known] = {}
        self._ready_at: dict[str, float] = {}  # since when each has been ready
        self._read_at: float | None = None
        # Of a cache that replicas have not told yet, nobody knows what it holds.
        self._capacity = declared if declared is not None and isfinite(declared.kv) else None
        self._usual = UsualAnswers()

    def read(
        self,
        readings: Mapping[str, ReplicaReading],
        ready: Collection[str],
        target: int,
        now: float,
    ) -> Observation | None:
        """What was asked since the call before; None where too little is seen to tell.

        Args:
            readings: the latest of each replica.
            ready: replicas that serve.
            target: replicas that were asked for.
            now: seconds, of a clock that never goes back.
        """
        first = self._read_at is None
        seconds = 0.0 if self._read_at is None else now - self._read_at
        self._read_at = now
        told = {name: reading.start_s for name, reading in readings.items()}
        self._starts.look(ready, target, now, told)
        demand = self._taken(readings, first=first, seconds=seconds, now=now)
        # Who is told of and has said nothing new for long is silent, and not somebody new.
        self._known = {
            name: known
            for name, known in self._known.items()
            if name in readings or now - known.heard_at <= _REMEMBERED_S
        }
        self._ready_at = {name: self._ready_at.get(name, now) for name in ready}
        seen = [self._known[n].reading for n in ready if n in self._known and self._heard(n, now)]
        self._learn_capacity(seen)
        if seconds <= 0.0 or len(seen) < _SEEN_SHARE * len(ready) or self._capacity is None:
            return None
        if target and not seen:  # who would have counted?
            return None
        return Observation(
            demand=Demand(demand.prefill / seconds, demand.decode / seconds, demand.kv_s / seconds),
            seconds=seconds,
            backlog=Demand(
                sum(one.queued_prefill for one in seen), sum(one.queued_decode for one in seen)
            ),
            capacity=self._capacity,
            cold_start=self.cold_start,
            ready=len(ready),
            target=target,
            silent=sum(not self._heard(name, now) for name in ready),
        )

    def _heard(self, name: str, now: float) -> bool:
        """Whether a ready replica has reported of late, or has only just become ready."""
        known = self._known.get(name)
        heard_at = self._ready_at[name] if known is None else known.heard_at
        return now - heard_at <= SILENT_S

    def resume(self, earlier: DemandMeter) -> None:
        """Go on counting where another left off; what is declared here stays."""
        earlier._starts.assumed_s = self._starts.assumed_s
        self._starts, self._known = earlier._starts, earlier._known
        self._read_at, self._ready_at = earlier._read_at, earlier._ready_at
        self._usual = earlier._usual
        if self._declared is None:
            self._capacity = earlier._capacity

    @property
    def cold_start(self) -> ColdStart:
        """Of the replicas that were seen to start, the last ten."""
        return self._starts.cold_start

    def overdue(self, now: float) -> int:
        """Replicas that have been starting for far longer than any did."""
        return self._starts.waiting_since(now - _OVERDUE * self.cold_start.most_s)

    def _taken(
        self, readings: Mapping[str, ReplicaReading], *, first: bool, seconds: float, now: float
    ) -> Offered:
        """What new readings have counted since the ones before."""
        learned, guessed = Offered(), Offered()
        for name, reading in readings.items():
            known = self._known.get(name)
            if known is not None and known.reading.sequence == reading.sequence:
                continue
            self._known[name] = _Known(reading, now)
            if known is None and (first or reading.sequence > _NEW_REPORTS):
                continue
            before, share = None, 1.0
            if known is not None and known.reading.sequence < reading.sequence:
                before = known.reading
                # Who was silent for a minute has not had all of it in this second.
                gap_s = now - known.heard_at
                share = min(max(seconds, _LATE_S) / gap_s, 1.0) if gap_s else 1.0
            offered = Offered.between(before, reading, share)
            if reading.sequence > _LEARNING:
                learned += offered
            else:
                guessed += offered
        self._usual.learn(learned)
        demand = learned + self._usual.corrected(guessed)
        return Offered(max(demand.prefill, 0.0), max(demand.decode, 0.0), max(demand.kv_s, 0.0))

    def _learn_capacity(self, seen: Collection[ReplicaReading]) -> None:
        """The mean of what replicas manage; what was learned stays when none can tell."""
        if self._declared is not None:
            told = [one.kv_tokens for one in seen if one.kv_tokens]
            if told and not isfinite(self._declared.kv):
                self._capacity = replace(self._declared, kv=fmean(told))
            return
        able = [one for one in seen if one.prefill_rate and one.decode_rate and one.kv_tokens]
        if able:
            self._capacity = Capacity(
                fmean(one.prefill_rate for one in able),
                fmean(one.decode_rate for one in able),
                fmean(one.kv_tokens for one in able),
                "learned",
            )
