"""Predicted time to first token, as a sum of named waits."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from itertools import islice

import numpy as np

from forebay.policies.forecast.ledger import Ledger
from forebay.policies.request import Floats, OutputModel, Sequence, SharedPrefixes

_GRID = 16  # points of the geometric grid, and most caps looked at
_MOST_LOOKED_AT = 256  # running answers; of more, every so many: it is done once for each step
_EXPONENTS = np.linspace(0.0, 1.0, _GRID)  # of the last point: a geometric grid from 1 to it
_MOST_STEPS = 4.0  # for which a curve is kept: some of the time that a prediction errs by anyway
_MOST_TURNED = 1 / 8  # of the running answers may have begun or ended meanwhile


@dataclass(frozen=True, slots=True)
class Prediction:
    """Seconds until a request's first token, by what it waits for.

    Attributes:
        ahead_s: prompt tokens to be computed ahead of it.
        own_s: its own prompt tokens.
        release_s: sequence slots or KV blocks to come free.
        overhead_s: learned correction.
        stalled_s: for how long the engine has been silent already, beyond the usual.
    """

    ahead_s: float
    own_s: float
    release_s: float
    overhead_s: float
    stalled_s: float = 0.0

    @property
    def raw_s(self) -> float:
        """The model's part: a step takes the time of its prompts and that of its answers."""
        return self.ahead_s + self.release_s + self.own_s

    @property
    def total_s(self) -> float:
        """What the decision uses."""
        return self.raw_s + self.overhead_s + self.stalled_s


@dataclass(frozen=True, slots=True)
class Wait:
    """What must come free before a request can start: sequence slots and KV tokens (<= 0: none)."""

    slots: int
    kv_tokens: int


@dataclass(frozen=True, slots=True)
class Releases:
    """When the running answers are expected to give back what they hold.

    Attributes:
        steps: decode steps from when it was worked out, rising.
        slots: sequences expected to have ended by each of them.
        kv_tokens: KV tokens expected to be free again by each of them; worked out when it is first
            asked for, since KV is rarely short.
        running: sequences that run now.
        answer_tokens: length of a typical answer, for waits that outlast everything running.
        capacity: sequences the engine runs at once.
        kv_capacity: tokens that its KV blocks hold.
        since: decode steps that have passed since it was worked out.
    """

    steps: list[float]
    slots: list[float]
    kv_tokens: Callable[[], list[float]]
    running: int
    answer_tokens: float
    capacity: int
    kv_capacity: int
    since: float = 0.0

    def wait(self, wait: Wait) -> float:
        """Decode steps until a request with these needs can start.

        Every running sequence still makes that many output tokens; each takes one TPOT.
        """
        if wait.slots <= 0 and wait.kv_tokens <= 0:
            return 0.0
        if not self.running:
            slots = max(wait.slots, 1) / self.capacity
            return max(slots, wait.kv_tokens / self.kv_capacity) * self.answer_tokens
        needed = 0.0
        if wait.slots > 0:
            needed = self._come_free(wait.slots - 0.5, self.slots, self.running, self.capacity)
        if wait.kv_tokens > 0:
            free = self.kv_tokens()
            held = free[-1] - self._gone(free)
            of_kv = self._come_free(wait.kv_tokens, free, held, self.kv_capacity)
            needed = max(needed, of_kv)
        return needed

    def _come_free(self, amount: float, freed: list[float], held: float, capacity: float) -> float:
        """Steps until so much has come free of a full engine, whose running answers hold `held`.

        Who takes a slot gives it back a typical answer later. So answers that began together end
        together, and so do those that follow them; spread out, slots come free at a steady pace.
        KV blocks likewise.
        """
        rounds, place = divmod(amount, capacity)
        idle = capacity - held  # that those ahead are about to take
        gone = self._gone(freed)
        steps = self._until(gone + place, freed)
        if place >= held or steps > self.answer_tokens:
            steps = max(self.answer_tokens, self._until(gone + place - idle, freed))
        return steps + rounds * self.answer_tokens

    def _gone(self, freed: list[float]) -> float:
        """What has come free since it was worked out."""
        if self.since < self.steps[0]:
            return 0.0
        return _interpolated(self.since, self.steps, freed)

    def _until(self, amount: float, freed: list[float]) -> float:
        """Steps from now until so much has come free since it was worked out."""
        return max(_interpolated(amount, freed, self.steps) - self.since, 0.0)

    def after(self, steps: float, running: int) -> Releases:
        """The same so many steps later, if it came about as expected; `running` are left then.

        Raises:
            ValueError: everything should have ended by then.
        """
        since = self.since + steps
        if since >= self.steps[-1]:
            raise ValueError(f"nothing is known of what runs after {steps:.1f} steps")
        return Releases(
            steps=self.steps,
            slots=self.slots,
            kv_tokens=self.kv_tokens,
            running=running,
            answer_tokens=self.answer_tokens,
            capacity=self.capacity,
            kv_capacity=self.kv_capacity,
            since=since,
        )


_NOTHING = [0.0]


def _interpolated(x: float, xs: list[float], ys: list[float]) -> float:
    """As `np.interp`, which takes five times as long for a single number."""
    place = bisect_right(xs, x)
    if place == 0 or place == len(xs):
        return ys[max(place - 1, 0)]
    low, high = xs[place - 1], xs[place]
    return ys[place - 1] + (ys[place] - ys[place - 1]) * (x - low) / (high - low)


def expected_releases(
    running: Collection[Sequence],
    outputs: OutputModel,
    prefixes: SharedPrefixes,
    *,
    answer_tokens: float,
    capacity: int,
    kv_capacity: int,
) -> Releases:
    """How slots and KV come free as the running answers end.

    An answer ends by itself as the learned lengths say, or at its cap for certain; the expected
    number that have ended after some steps is the sum of those probabilities. So capped answers
    that started together are seen to end together, and free ones at a steady pace. Of KV an answer
    gives back what it holds alone now: what several share outlives most of them, and is taken to
    outlive them all.

    Args:
        running: the running answers.
        outputs: learned answer lengths.
        prefixes: what the prompts in the engine have in common.
        answer_tokens: length of a typical answer while nothing runs.
        capacity: sequences the engine runs at once.
        kv_capacity: tokens that its KV blocks hold.
    """
    if not running:
        nothing = _NOTHING, _NOTHING, lambda: _NOTHING
        return Releases(*nothing, 0, answer_tokens, capacity, kv_capacity)
    stride = -(-len(running) // _MOST_LOOKED_AT)
    looked_at = list(islice(running, 0, None, stride))
    produced = np.array([s.produced for s in looked_at], dtype=float)
    caps = np.array([s.cap for s in looked_at], dtype=float)
    expected = np.array([s.expected for s in looked_at], dtype=float)
    steps = _moments(caps - produced)
    reached = produced[:, np.newaxis] + steps
    longer = outputs.survival_at(reached)
    longer[reached >= caps[:, np.newaxis]] = 0.0
    alive = np.maximum(outputs.survival_at(produced), 1e-9)
    share = len(running) / len(looked_at)

    def gone(each: Floats) -> list[float]:
        """What the answers give back, of which each holds so much."""
        freed: list[float] = ((each.sum() - each / alive @ longer) * share).tolist()
        return freed

    @cache
    def kv_tokens() -> list[float]:
        alone = [s.prompt - s.apart + prefixes.alone(s.chunks) for s in looked_at]
        prompts = np.array(alone, dtype=float)
        return gone(prompts + np.maximum(np.rint(expected), produced))  # `Sequence.kv_tokens`

    return Releases(
        steps=steps.tolist(),
        slots=gone(np.ones(len(looked_at))),
        kv_tokens=kv_tokens,
        running=len(running),
        answer_tokens=float(expected.sum()) / len(looked_at),
        capacity=capacity,
        kv_capacity=kv_capacity,
    )


def _moments(left: Floats) -> Floats:
    """Steps at which expected ends are evaluated: a geometric grid, and where caps are reached.

    A cap is a jump, so a point just before it stands beside it; of many, some are taken.
    """
    caps = sorted(set(np.maximum(left, 1.0).tolist()))  # so few that numpy's ways take longer
    if len(caps) > _GRID:
        caps = [caps[k * (len(caps) - 1) // (_GRID - 1)] for k in range(_GRID)]
    ends = np.array(caps)
    points: Floats = np.sort(np.concatenate([ends[-1] ** _EXPONENTS, ends, ends - 0.5]))
    return points


class ReleaseCurve:
    """The releases expected of one replica's engine. Changes nothing of the ledger.

    Worked out for each step of the engine, the curve of expected releases would be the largest
    part of what an admission costs. But a step moves it little: by itself, and by the few answers
    that began or ended. So it is kept for some steps, and read as many steps further on.
    """

    def __init__(self, ledger: Ledger, outputs: OutputModel, slots: int, kv_tokens: int) -> None:
        """Know nothing yet; the engine runs `slots` sequences at once, in `kv_tokens` of cache."""
        self._ledger = ledger
        self._outputs = outputs
        self._slots = slots
        self._kv_tokens = kv_tokens
        self._whole: Releases | None = None  # as worked out last
        self._whole_at = self._turned_at = 0  # what the ledger had counted then
        self._read: Releases | None = None  # the same, from now on
        self._read_at = 0

    def now(self, answer_tokens: float, *, kv: bool = False) -> Releases:
        """What is expected from now on.

        Args:
            answer_tokens: length of a typical answer while nothing runs.
            kv: whether KV is asked for: where it is short, nothing is taken from before.
        """
        ledger = self._ledger
        if self._read is None or self._read_at != ledger.changes or not ledger.running:
            self._read = self._read_on()
            self._read_at = ledger.changes
        if self._read is None or (kv and self._read is not self._whole):
            self._read = self._whole = self._worked_out(answer_tokens)
            self._whole_at, self._turned_at = ledger.changes, ledger.turned
        return self._read

    def _read_on(self) -> Releases | None:
        """The curve that was worked out last, so much later; None where that says too little."""
        running, turned = len(self._ledger.running), self._ledger.turned - self._turned_at
        if self._whole is None or not running:
            return None
        if turned > _MOST_TURNED * min(running, self._whole.running):
            return None
        steps = (self._ledger.changes - self._whole_at - turned) / running
        if steps > min(_MOST_STEPS, 0.5 * self._whole.steps[-1]):
            return None
        return self._whole.after(steps, running)

    def _worked_out(self, answer_tokens: float) -> Releases:
        return expected_releases(
            self._ledger.running,
            self._outputs,
            self._ledger.prefixes,
            answer_tokens=answer_tokens,
            capacity=self._slots,
            # What is shared outlives them all: it comes free for nobody.
            kv_capacity=max(self._kv_tokens - self._ledger.prefixes.tokens, 1),
        )
