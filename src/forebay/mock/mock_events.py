"""The bytes that the mock writes: HTTP heads, errors and events, shaped as vLLM 0.29 does it.

What repeats is built once: a token's event costs two concatenations.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from forebay.wire import chunk, error_object, event, response

NOT_HTTP = b"SSH-2.0-not_a_web_server\r\n"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
# One text a token, numbered so that a lost or doubled one is seen; all as long as each other, so
# that the size of a chunk is known beforehand. Each is one word.
TEXTS = tuple(f" {number:03}".encode() for number in range(1000))
MULTIBYTE_TEXTS = tuple(f" {number:03}é水\U0001f30a".encode() for number in range(1000))

_FINISH = b'"finish_reason":"length"'
_NO_FINISH = b'"finish_reason":null'


def json_response(content: object) -> bytes:
    """A 200 with a JSON body."""
    return response(200, _json(content))


def error_response(
    status: int, message: str, headers: Iterable[tuple[str, str]] = (), param: str | None = None
) -> bytes:
    """A refusal in OpenAI's shape."""
    return response(status, _json(error_object(status, message, param=param)), headers=headers)


def usage(prompt_tokens: int, output_tokens: int) -> dict[str, int]:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + output_tokens,
        "completion_tokens": output_tokens,
    }


def text_of(texts: tuple[bytes, ...], first: int, end: int) -> bytes:
    """The text of the tokens from `first` up to `end`, counted from 0."""
    return b"".join([texts[number % len(texts)] for number in range(first, end)])


class Events:
    """The events of one answer, each already framed as a chunk of its body."""

    def __init__(self, head: dict[str, Any], texts: tuple[bytes, ...], *, chat: bool) -> None:
        """Takes what every event of the answer begins with: id, object, created, model."""
        self.opening = _role_event(head) if chat else b""
        self._head = head
        self._texts = texts
        start = _json(head)[:-1]
        self._before = b"data: %b,%b" % (start, _CHAT_BEFORE if chat else _TEXT_BEFORE)
        self._after = (_CHAT_AFTER if chat else _TEXT_AFTER) + b"\n\n"
        size = len(self._before) + len(texts[0]) + len(self._after)
        self._one_before = b"%x\r\n%b" % (size, self._before)
        self._one_after = self._after + b"\r\n"

    def token(self, number: int) -> bytes:
        """The event of one token that is not the last."""
        texts = self._texts
        return self._one_before + texts[number % len(texts)] + self._one_after

    def tokens(self, first: int, end: int, *, finish: bool) -> bytes:
        """The event of several tokens, or of the last."""
        after = self._after.replace(_NO_FINISH, _FINISH) if finish else self._after
        return chunk(self._before + text_of(self._texts, first, end) + after)

    def usage(self, prompt_tokens: int, output_tokens: int) -> bytes:
        """The last event where usage was asked for: no choices."""
        values = {**self._head, "choices": [], "usage": usage(prompt_tokens, output_tokens)}
        return chunk(event(_json(values)))


_TEXT_BEFORE = b'"choices":[{"index":0,"text":"'
_TEXT_AFTER = (
    b'","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,'
    b'"token_ids":null}]}'
)
_CHAT_BEFORE = b'"choices":[{"index":0,"delta":{"content":"'
_CHAT_AFTER = b'"},"logprobs":null,"finish_reason":null,"stop_reason":null,"token_ids":null}]}'


def error_event(message: str) -> bytes:
    """An error inside a stream that was already answered with 200, framed as a chunk."""
    return chunk(event(_json(error_object(500, message))))


def _role_event(head: dict[str, Any]) -> bytes:
    """What a chat begins with: who speaks, and no text yet."""
    delta = {"role": "assistant", "content": ""}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    return chunk(event(_json({**head, "choices": [choice]})))


def _json(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
