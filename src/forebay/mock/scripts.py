"""What one answer writes, and when: the request, its draws and its fault made into a script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from forebay.mock.faults import Fault
from forebay.mock.laws import Fixed, Law
from forebay.mock.mock_events import (
    MULTIBYTE_TEXTS,
    STREAM_HEAD,
    TEXTS,
    Events,
    error_event,
    error_response,
    json_response,
    text_of,
    usage,
)
from forebay.mock.mock_requests import MockRequest
from forebay.wire import DONE, LAST_CHUNK, chunk

ENGINE_ERROR = "the mock was told to fail here"


@dataclass(frozen=True, slots=True)
class Script:
    """One answer's writes.

    Attributes:
        offsets: when each is due, seconds from the start of the answer, ascending.
        piece: the bytes of each, by its place.
        token_writes: how many of them, from the first, carry tokens.
        tokens: output tokens in all of them.
        per_write: tokens in each; the last with tokens may have fewer.
        status: HTTP status.
        head: goes out on arrival, as vLLM sends it; with the first write in a stall.
        closes: the connection is closed after the last.
    """

    offsets: Sequence[float]
    piece: Callable[[int], bytes]
    token_writes: int = 0
    tokens: int = 0
    per_write: int = 1
    status: int = 200
    head: bytes = b""
    closes: bool = False

    def tokens_in(self, place: int) -> int:
        """Output tokens in one of the writes."""
        if place >= self.token_writes:
            return 0
        return min(self.per_write, self.tokens - place * self.per_write)


def at_once(data: bytes, status: int, *, closes: bool = False) -> Script:
    """One write, now."""
    return Script((0.0,), lambda _: data, status=status, closes=closes)


def token_offsets(ttft: Law, itl: Law, count: int, rng: np.random.Generator) -> Sequence[float]:
    """When each of `count` tokens is due, seconds from the start of the answer."""
    (first,) = ttft.draw(1, rng)
    if isinstance(itl, Fixed):  # products: a sum would gather rounding errors
        return [first + number * itl.seconds for number in range(count)]
    return list(accumulate([first, *itl.draw(count - 1, rng)]))


def plain(ask: MockRequest, names: dict[str, object], due_s: float, fault: Fault | None) -> Script:
    """An answer in one piece, `due_s` after its start."""
    kind = "" if fault is None else fault.kind
    if kind == "error-in-stream":
        return Script((due_s,), lambda _: error_response(500, ENGINE_ERROR), status=500)
    body = json_response(_plain_body(ask, names))
    if kind == "cut":
        return Script((due_s,), lambda _: body[: -len(body) // 4], closes=True)
    return Script((due_s,), lambda _: body, 1, ask.output_tokens, ask.output_tokens)


def _plain_body(ask: MockRequest, names: dict[str, object]) -> dict[str, object]:
    text = text_of(TEXTS, 0, ask.output_tokens).decode()
    said = {"message": {"role": "assistant", "content": text}} if ask.chat else {"text": text}
    choice = {"index": 0, **said, "logprobs": None, "finish_reason": "length", "stop_reason": None}
    return {**names, "choices": [choice], "usage": usage(ask.prompt_tokens, ask.output_tokens)}


def stream(
    ask: MockRequest,
    names: dict[str, object],
    offsets: Sequence[float],
    fault: Fault | None,
    rng: np.random.Generator,
) -> Script:
    """An answer of one event a token, the end of the stream in one write with the last of them."""
    kind = "" if fault is None else fault.kind
    count = 0 if fault is None else int(fault.value)
    events = Events(names, MULTIBYTE_TEXTS if kind == "split" else TEXTS, chat=ask.chat)
    if kind in ("cut", "error-in-stream"):
        return _broken(ask, events, offsets, min(count, ask.output_tokens), kind)
    per_write = count if kind == "chunk" else 1
    script = _whole(ask, events, offsets, per_write, done=kind != "no-done")
    return _split_anywhere(script, rng) if kind == "split" else script


def _whole(
    ask: MockRequest, events: Events, offsets: Sequence[float], per_write: int, *, done: bool
) -> Script:
    """A stream with a good end, in events of `per_write` tokens."""
    tokens = ask.output_tokens
    due = offsets if per_write == 1 else [*offsets[per_write - 1 : -1 : per_write], offsets[-1]]
    last = len(due) - 1

    def piece(place: int) -> bytes:
        if 0 < place < last and per_write == 1:
            return events.token(place)
        first = place * per_write
        opening = events.opening if place == 0 else b""
        if place < last:
            return opening + events.tokens(first, first + per_write, finish=False)
        return opening + events.tokens(first, tokens, finish=True) + _ending(ask, events, done)

    return Script(due, piece, len(due), tokens, per_write, head=STREAM_HEAD)


def _ending(ask: MockRequest, events: Events, done: bool) -> bytes:
    last = events.usage(ask.prompt_tokens, ask.output_tokens) if ask.include_usage else b""
    return last + (chunk(DONE) if done else b"") + LAST_CHUNK


def _broken(
    ask: MockRequest, events: Events, offsets: Sequence[float], good: int, kind: str
) -> Script:
    """A stream that breaks when the token after `good` was due; after the last where none was."""
    due = [*offsets[:good], offsets[min(good, len(offsets) - 1)]]
    end = error_event(ENGINE_ERROR) + chunk(DONE) + LAST_CHUNK if kind == "error-in-stream" else b""

    def piece(place: int) -> bytes:
        opening = events.opening if place == 0 else b""
        return opening + events.token(place) if place < good else end

    return Script(due, piece, good, good, head=STREAM_HEAD, closes=kind == "cut")


def _split_anywhere(script: Script, rng: np.random.Generator) -> Script:
    """Moves the end of each write to a drawn place within the next one's first line.

    Nothing becomes late or early by it: an event counts when its line is whole, and the write that
    completes a line goes out when its token is due.
    """
    drawn: list[float] = rng.random(len(script.offsets)).tolist()

    def early(place: int) -> int:
        """How much of a piece goes out with the piece before it."""
        if place == 0 or place == len(drawn):
            return 0
        return 1 + int(drawn[place] * (script.piece(place).index(b"\n\n") - 1))

    def piece(place: int) -> bytes:
        following = script.piece(place + 1)[: early(place + 1)] if place + 1 < len(drawn) else b""
        return script.piece(place)[early(place) :] + following

    return replace(script, piece=piece)
