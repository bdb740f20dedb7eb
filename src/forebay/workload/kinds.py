"""Kinds of request, and the endless stream of sessions that a mix of them makes.

Each kind draws from random streams of its own, so that a change of one leaves the others as they
were: two workloads that differ in one kind can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from forebay.workload.lengths import Ints, Lengths, shares
from forebay.workload.prompts import PrefixPool, Segment
from forebay.workload.rates import Floats
from forebay.workload.requests import Request, Session

_BLOCK = 256  # sessions drawn at a time

Pairs = tuple[tuple[int, int], ...]


class PairLaw(Protocol):
    """A law of (prompt, output) lengths, tokens."""

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """`count` of each."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A lognormal of a median and a 99th percentile, in seconds; both alike make it constant."""

    p50_s: float
    p99_s: float

    def __post_init__(self) -> None:
        if not 0 < self.p50_s <= self.p99_s:
            raise ValueError(f"a pause needs 0 < p50 <= p99, not {self.p50_s} and {self.p99_s}")

    def draw(self, count: int, rng: np.random.Generator) -> Floats:
        """`count` pauses, seconds."""
        sigma = np.log(self.p99_s / self.p50_s) / 2.3263478740408408  # normal quantile of 0.99
        return rng.lognormal(np.log(self.p50_s), sigma, count)


@dataclass(frozen=True, slots=True)
class Conversations:
    """How many turns a session has, and how long its user thinks between them."""

    turns: Lengths
    think: Pause


@dataclass(frozen=True, slots=True)
class Cancelling:
    """The share of requests whose clients leave, and how long after asking, if still waiting."""

    share: float
    after: Pause

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"a share lies between 0 and 1, not at {self.share}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of session.

    Attributes:
        name: of the kind.
        share: weight among the kinds of its mix, by sessions.
        lengths: law of the tokens that each turn adds by itself, and of its answer's.
        prefixes: what its prompts begin with; these tokens come on top of `lengths`.
        conversations: makes sessions of several turns; single requests, if None.
        recorded: sessions as they were recorded, (prompt, output) tokens by turn: drawn whole,
            they replace `lengths` and the number of turns.
        cancelling: clients that leave early.
        class_name: traffic class.
        tenants: (name, weight) of whose requests these are; nobody's, if empty.
    """

    name: str
    lengths: PairLaw
    share: float = 1.0
    prefixes: PrefixPool | None = None
    conversations: Conversations | None = None
    recorded: tuple[Pairs, ...] = ()
    cancelling: Cancelling | None = None
    class_name: str = ""
    tenants: tuple[tuple[str, float], ...] = ()


def sessions(kinds: Sequence[Kind], seed: int) -> Iterator[Session]:
    """Sessions without times, numbered from 0, for ever; the same for the same seed.

    Raises:
        ValueError: no kind, or shares that are not weights.
    """
    parts = shares([kind.share for kind in kinds])
    choose = np.random.default_rng([seed, 0])
    makers = [_Maker(kind, np.random.default_rng([seed, 1, i])) for i, kind in enumerate(kinds)]
    return (makers[chosen].next(number) for number, chosen in enumerate(_choices(choose, parts)))


def _choices(rng: np.random.Generator, parts: Floats) -> Iterator[int]:
    """Indices into the shares, for ever."""
    while True:
        yield from rng.choice(len(parts), _BLOCK, p=parts).tolist()


class _Maker:
    """Sessions of one kind, drawn a block at a time: numpy is slow on single numbers."""

    def __init__(self, kind: Kind, rng: np.random.Generator) -> None:
        self._kind = kind
        self._rng = rng
        self._prefixes = kind.prefixes.segments(rng) if kind.prefixes else []
        self._tenants = [name for name, _ in kind.tenants] or [""]
        self._weights = shares([weight for _, weight in kind.tenants] or [1.0])
        self._ready: Iterator[Session] = iter(())
        self._number = 0

    def next(self, number: int) -> Session:
        """The next session, to be known by `number`."""
        self._number = number
        session = next(self._ready, None)
        if session is None:
            self._ready = self._block()
            session = next(self._ready)
        return session

    def _block(self) -> Iterator[Session]:
        turns = self._turns()
        count = sum(len(pairs) for pairs in turns)
        thinks, cancels = iter(self._thinks(count)), iter(self._cancels(count))
        ranks = self._ranks()
        tenants = self._rng.choice(len(self._tenants), _BLOCK, p=self._weights).tolist()
        for pairs, rank, tenant in zip(turns, ranks, tenants, strict=True):
            prefix = () if rank is None else (self._prefixes[rank],)
            yield Session(
                number=self._number,
                turns=tuple(self._requests(pairs, prefix, thinks, cancels)),
                kind=self._kind.name,
                class_name=self._kind.class_name,
                tenant=self._tenants[tenant],
            )

    def _requests(
        self,
        pairs: Pairs,
        prefix: tuple[Segment, ...],
        thinks: Iterator[float],
        cancels: Iterator[float | None],
    ) -> Iterator[Request]:
        history = 0
        for turn, (prompt, output) in enumerate(pairs):
            own = Segment(f"{self._kind.name}/{self._number}/{turn}", prompt)
            request = Request(
                segments=(*prefix, own),
                output_tokens=output,
                history_tokens=history,
                think_s=next(thinks) if turn else 0.0,
                cancel_after_s=next(cancels),
            )
            yield request
            history, prefix = request.prompt_tokens + output, ()

    def _turns(self) -> list[Pairs]:
        """(prompt, output) tokens of each turn of a block of sessions."""
        kind, rng = self._kind, self._rng
        if kind.recorded:
            return [kind.recorded[i] for i in rng.integers(0, len(kind.recorded), _BLOCK)]
        counts = [1] * _BLOCK
        if kind.conversations is not None:
            counts = kind.conversations.turns.draw(_BLOCK, rng).tolist()
        prompts, outputs = kind.lengths.draw(sum(counts), rng)
        pairs = iter(zip(prompts.tolist(), outputs.tolist(), strict=True))
        return [tuple(next(pairs) for _ in range(count)) for count in counts]

    def _thinks(self, count: int) -> list[float]:
        if self._kind.conversations is None:
            return [0.0] * count
        drawn: list[float] = self._kind.conversations.think.draw(count, self._rng).tolist()
        return drawn

    def _cancels(self, count: int) -> list[float | None]:
        cancelling = self._kind.cancelling
        if cancelling is None:
            return [None] * count
        leaves = self._rng.random(count) < cancelling.share
        after = cancelling.after.draw(count, self._rng)
        return [float(s) if leave else None for leave, s in zip(leaves, after, strict=True)]

    def _ranks(self) -> list[int] | list[None]:
        pool = self._kind.prefixes
        return [None] * _BLOCK if pool is None else pool.draw(_BLOCK, self._rng).tolist()
