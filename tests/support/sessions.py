"""Sessions and bodies for the tests here."""

from __future__ import annotations

import json

from forebay.load.plan import Spoken
from forebay.workload import Request, Segment, Session


class Numbered:
    """Bodies that say which session and turn they are, and what was answered before."""

    path = "/v1/completions"

    def ask(self, request: Request, spoken: Spoken) -> bytes:
        spoken.parts.append(request.segments[0].name.encode())
        return json.dumps([part.decode() for part in spoken.parts]).encode()

    def answered(self, request: Request, spoken: Spoken, text: str) -> None:
        spoken.parts.append(text.encode())


def single(number: int, at_s: float = 0.0, cancel_after_s: float | None = None) -> Session:
    """A session of one turn."""
    segment = Segment(f"s{number}", 7)
    turn = Request(segments=(segment,), output_tokens=5, cancel_after_s=cancel_after_s)
    return Session(number=number, turns=(turn,), at_s=at_s)


def conversation(number: int, turns: int, think_s: float = 0.01, at_s: float = 0.0) -> Session:
    """A session of several turns."""
    asked = tuple(
        Request(
            segments=(Segment(f"s{number}t{turn}", 7),),
            output_tokens=5,
            history_tokens=12 * turn,
            think_s=think_s if turn else 0.0,
        )
        for turn in range(turns)
    )
    return Session(number=number, turns=asked, at_s=at_s)


def singles(count: int, gap_s: float = 0.0) -> list[Session]:
    """Single requests, `gap_s` apart."""
    return [single(number, number * gap_s) for number in range(count)]
