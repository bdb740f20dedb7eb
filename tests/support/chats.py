"""The conversations of the routing benchmarks, for a load client and for virtual time.

Chats of several turns, each of which begins with one of some shared instructions of Zipf
popularity, as assistants with tools and few-shot examples have them: instructions are long, what
each turn adds is short. Every turn is sent some seconds after the answer before it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from forebay.policies.routing import Prompt, chunk_hashes
from forebay.simulate import SimRequest
from forebay.spec.workload import WorkloadSpec
from forebay.workload import OpenLoop, Session

TURNS = (2, 8)
MEAN_TURNS = sum(TURNS) / 2
PREFIXES = 32


def workload(
    rate: float, seconds: float, *, ttft_s: float, tpot_s: float, seed: int = 3, tenants: int = 0
) -> WorkloadSpec:
    """`rate` requests/s, of all turns, once conversations end as often as they begin."""
    kind = {
        "prompt": {"lognormal": {"p50": 60, "p99": 400}},
        "output": {"lognormal": {"p50": 24, "p99": 96}},
        "prefixes": {"count": PREFIXES, "tokens": {"uniform": [400, 1200]}, "zipf": 1.0},
        "conversation": {
            "turns": {"uniform": list(TURNS)},
            "think": {"p50": "6s", "p99": "30s"},
        },
        "tenants": [{"name": f"t{k}"} for k in range(tenants)],
    }
    return WorkloadSpec.model_validate(
        {
            "name": "chats",
            "requests": [kind],
            "stages": [{"hold": f"{rate / MEAN_TURNS}/s", "for": f"{seconds}s"}],
            "slo": {"ttft": f"{ttft_s}s", "tpot": f"{tpot_s}s"},
            "seed": seed,
        }
    )


@dataclass(slots=True)
class Chat:
    """A conversation in virtual time; `turn` is the next one to be asked."""

    session: Session
    names: Names
    salted: bool
    turn: int = 0
    history: list[int] = field(default_factory=list)
    home: int = 0

    def ask(self, number: int, now: float) -> SimRequest:
        """The next turn, asked now."""
        request = self.session.turns[self.turn]
        for segment in request.segments:
            self.history += self.names.tokens(segment.name, segment.tokens)
        ids = tuple(self.history)
        answer = self.names.tokens(f"{self.session.number}/{self.turn}", request.output_tokens)
        self.history += answer
        self.turn += 1
        return SimRequest(
            number, now, len(ids), request.output_tokens, request.output_tokens, ids, (*answer, 0),
            self._text(ids), self.session.tenant if self.salted else None,
        )  # fmt: skip

    def _text(self, ids: tuple[int, ...]) -> Prompt:
        chunks = chunk_hashes(array("I", ids).tobytes())
        self.home = self.home or hash(ids) & (2**64 - 1)  # of all up to the first user's words
        return Prompt(size=4 * len(ids), chunks=chunks, home=self.home)

    def next_at(self, ended_at: float) -> float | None:
        """When the next turn is asked; None after the last."""
        if self.turn == len(self.session.turns):
            return None
        return ended_at + self.session.turns[self.turn].think_s


class Names:
    """Token ids for names of segments: other names, other ids."""

    def __init__(self) -> None:
        self._bases: dict[str, int] = {}
        self._free = count(0, 1 << 14)

    def tokens(self, name: str, size: int) -> range:
        base = self._bases.get(name)
        if base is None:
            base = self._bases[name] = next(self._free) % (1 << 31)
        return range(base, base + size)


def chats(spec: WorkloadSpec, *, salted: bool) -> Iterator[Chat]:
    """A workload's conversations in order of their first turns."""
    made, names = spec.make(), Names()
    assert isinstance(made, OpenLoop)
    return (Chat(session, names, salted) for session in made.schedule())
