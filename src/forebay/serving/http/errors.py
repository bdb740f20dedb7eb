"""OpenAI's error shape, for everything that goes wrong before, in or behind vLLM."""

from __future__ import annotations

import json
import math
from typing import Any

from forebay.serving.http.asgi import Headers, Send, send_response
from forebay.wire import error_body

# OpenAI's clients wait in one go for less than this: in Python 60 s (2.x) or 120 s (3.x), in
# JavaScript less than 60 s. What is longer, 2.x takes for nothing said and asks again at once.
_LONGEST_WAIT_S = 60.0
_WAITS = 2  # their retries, by default
_MESSAGES, _RESPONSES = "/v1/messages", "/v1/responses"
_DATA = b"data: "


class RequestRefusedError(Exception):
    """A request that is answered with an error and never reaches the engine.

    Attributes:
        status: HTTP status, 4xx or 5xx.
        message: what is wrong and how to mend it.
        code: machine-readable reason.
        param: the field that is wrong, if it is one field.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        param: str | None = None,
        headers: Headers = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = headers


def event_data(path: str, body: bytes, before: bytes) -> bytes:
    """An error body in OpenAI's shape, as the data of an event that clients of `path` understand.

    OpenAI's clients look for `error`, and who goes by an event's `type` finds that as well. Events
    of the Responses API have the fields beside it, and are numbered through the stream: `before` is
    what came last in it. Anthropic has types of its own.
    """
    error = json.loads(body)["error"]
    fields: dict[str, Any] = {}
    if path == _MESSAGES:
        error = {"type": "api_error", "message": error["message"]}
    if path == _RESPONSES:
        fields = {field: error.get(field) for field in ("code", "message", "param")}
        fields["sequence_number"] = _number_after(before)
    return json.dumps({"error": error, "type": "error", **fields}).encode()


def _number_after(events: bytes) -> int:
    """The `sequence_number` that comes after the last of these; 0 where none has one."""
    for line in reversed(events.split(b"\n")):
        if not line.startswith(_DATA):
            continue
        try:
            number = json.loads(line.removeprefix(_DATA))["sequence_number"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(number, int):
            return number + 1
    return 0


async def send_error(
    send: Send,
    status: int,
    message: str,
    code: str | None,
    *,
    param: str | None = None,
    headers: Headers = (),
) -> None:
    """Answer with an error in OpenAI's shape."""
    await send_response(send, status, error_body(status, message, code, param), headers)


def shaped(status: int, body: bytes) -> bytes:
    """An error body in OpenAI's shape: as it came if it has it, rewritten if not."""
    try:
        parsed: Any = json.loads(body) if body else None
    except ValueError:
        parsed = body.decode("utf-8", "replace")
    if isinstance(parsed, dict):
        error = parsed.get("error")
        if isinstance(error, dict) and isinstance(error.get("message"), str):
            return _with_string_code(error, status, body)
        parsed = parsed.get("detail", parsed.get("message", parsed))
    message = parsed if isinstance(parsed, str) and parsed else json.dumps(parsed)
    return error_body(status, message if parsed else f"HTTP {status}", None)


def _with_string_code(error: dict[str, Any], status: int, body: bytes) -> bytes:
    """VLLM repeats the status as `code`; OpenAI's clients expect a string or null there."""
    if not isinstance(error.get("code"), int):
        return body
    return error_body(status, error["message"], None, error.get("param"))


def retry_headers(seconds: float) -> Headers:
    """`Retry-After` in whole seconds, with `retry-after-ms`, which OpenAI's clients prefer.

    The milliseconds are exact up to a minute. From there up to two they are the half: the client
    asks again on the way, is told the rest, and is there in time with its second retry, which no
    wait of more than a minute would have each of its versions do. Beyond, it is told not to retry.
    """
    whole = (b"retry-after", str(max(1, math.ceil(seconds))).encode())
    if seconds >= _WAITS * _LONGEST_WAIT_S:
        return [whole, (b"x-should-retry", b"false")]
    wait_s = seconds if seconds < _LONGEST_WAIT_S else seconds / _WAITS
    return [whole, (b"retry-after-ms", str(math.ceil(wait_s * 1000)).encode())]
