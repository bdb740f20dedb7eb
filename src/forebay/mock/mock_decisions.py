"""What the mock does with one request for tokens. Pure: the server carries it out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from forebay.mock.faults import NONE, Fault, chosen
from forebay.mock.laws import request_rng
from forebay.mock.mock_events import NOT_HTTP, error_response
from forebay.mock.mock_requests import BadRequestError, MockRequest, Request, read_ask
from forebay.mock.scripts import ENGINE_ERROR, Script, at_once, plain, stream, token_offsets
from forebay.mock.spec import MockSpec
from forebay.wire import response

CHAT_PATHS = {"/v1/completions": False, "/v1/chat/completions": True}
_FORCE = "x-mock"


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done with a request.

    Attributes:
        script: what is written; None is an answer that never comes.
        fault: what was done to it.
        prompt_tokens: what its prompt holds.
        takes_slot: whether it waits for a slot and holds it; else the script begins at once.
        stall_s: seconds for which everything stops, from its arrival.
    """

    script: Script | None
    fault: Fault | None = None
    prompt_tokens: int = 0
    takes_slot: bool = False
    stall_s: float = 0.0


def decide(spec: MockSpec, request: Request, number: int, since_s: float, created: int) -> Decision:
    """Decides on the `number`-th request, `since_s` seconds after the first.

    Args:
        spec: the mock.
        request: what was received, on one of `CHAT_PATHS`.
        number: from 0; what is drawn depends on it and the seed alone.
        since_s: seconds.
        created: what answers give as their time of creation, in Unix seconds.
    """
    rng = request_rng(spec.seed, number)
    drawn = chosen(spec.rules, rng.random(), since_s)
    try:
        chat = CHAT_PATHS[request.path]
        ask = read_ask(request.body, chat=chat, max_model_len=spec.max_model_len)
        fault = _forced(request.headers[_FORCE]) if _FORCE in request.headers else drawn
    except BadRequestError as error:
        return Decision(at_once(error_response(400, str(error), param=error.param), 400))
    if fault is not None:
        if fault.kind == "hang":
            return Decision(None, fault, ask.prompt_tokens)
        instead = _in_place_of_an_answer(fault)
        if instead is not None:
            return Decision(instead, fault, ask.prompt_tokens)
    stall_s = fault.value if fault is not None and fault.kind == "stall" else 0.0
    script = _script(spec, ask, _names(spec, ask, number, created), fault, rng)
    return Decision(script, fault, ask.prompt_tokens, takes_slot=True, stall_s=stall_s)


def queue_full(spec: MockSpec) -> Script:
    """The refusal where `max_queued` requests wait already."""
    return _refusal(f"{spec.max_queued} requests wait already", spec.retry_after_s)


def _refusal(message: str, retry_after_s: float) -> Script:
    """A 429 that says when to come again: in whole seconds as HTTP has it, and exactly."""
    headers = [
        ("retry-after", str(math.ceil(retry_after_s))),
        ("retry-after-ms", str(round(retry_after_s * 1000))),
    ]
    return at_once(error_response(429, message, headers), 429)


def _names(spec: MockSpec, ask: MockRequest, number: int, created: int) -> dict[str, object]:
    """What every object of an answer begins with. Its id holds the number, as the log does."""
    prefix, kind = ("chatcmpl", "chat.completion") if ask.chat else ("cmpl", "text_completion")
    if ask.chat and ask.stream:
        kind += ".chunk"
    return {"id": f"{prefix}-{number}", "object": kind, "created": created, "model": spec.model}


def _script(
    spec: MockSpec,
    ask: MockRequest,
    names: dict[str, object],
    fault: Fault | None,
    rng: np.random.Generator,
) -> Script:
    offsets = token_offsets(spec.ttft, spec.itl, ask.output_tokens, rng)
    if ask.stream:
        return stream(ask, names, offsets, fault, rng)
    return plain(ask, names, offsets[-1], fault)


def _forced(words: str) -> Fault | None:
    """The fault that a request asks for itself."""
    if words.strip() == NONE:
        return None
    try:
        return Fault.parse(words)
    except ValueError as error:
        raise BadRequestError(f"X-Mock: {error}", "X-Mock") from None


def _in_place_of_an_answer(fault: Fault) -> Script | None:
    """What is written instead, where the fault leaves no answer."""
    if fault.kind == "drop":
        return at_once(b"", 0, closes=True)
    if fault.kind == "malformed":
        return at_once(NOT_HTTP, 0, closes=True)
    if fault.kind == "429":
        return _refusal(ENGINE_ERROR, fault.value)
    if fault.kind == "500":
        return at_once(error_response(500, ENGINE_ERROR), 500)
    if fault.kind == "503":
        return at_once(response(503, b"no server is available\n", "text/plain"), 503)
    return None
