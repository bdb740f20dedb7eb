"""What was received, and what it asks for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

_DEFAULT_OUTPUT = 16  # OpenAI's and vLLM's for completions


class BadRequestError(ValueError):
    """A body that cannot be answered. `param` names the field, where it is one."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request.

    Attributes:
        method, path: as in its first line; the path is without a query.
        headers: by name in lower case.
        body: all of it.
        arrived_s: when its last byte was read, in seconds of the server's clock.
        keep_alive: whether the connection may carry another.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    arrived_s: float = 0.0
    keep_alive: bool = True


@dataclass(frozen=True, slots=True)
class MockRequest:
    """One request for tokens."""

    chat: bool
    prompt_tokens: int
    output_tokens: int
    stream: bool
    include_usage: bool


def read_ask(body: bytes, *, chat: bool, max_model_len: int) -> MockRequest:
    """Reads a body of ``/v1/completions`` or ``/v1/chat/completions``.

    Raises:
        BadRequestError: it is none, or asks for more than `max_model_len` tokens in all.
    """
    values = _json_object(body)
    if values.get("n") not in (None, 1):
        raise BadRequestError("the mock gives one answer a request; n must be 1", "n")
    stream = values.get("stream") is True
    ask = MockRequest(
        chat=chat,
        prompt_tokens=len(prompt_tokens(values, chat=chat)),
        output_tokens=_output_tokens(values),
        stream=stream,
        include_usage=_include_usage(values, stream=stream),
    )
    total = ask.prompt_tokens + ask.output_tokens
    if total > max_model_len:
        raise BadRequestError(
            f"{total} tokens are asked for, prompt and output; the context holds {max_model_len}",
            "max_tokens",
        )
    return ask


def read_tokens(body: bytes) -> list[int]:
    """The token ids for a body of ``/tokenize``: its own, or a number for each word of its text.

    Raises:
        BadRequestError: it has neither a prompt nor messages.
    """
    values = _json_object(body)
    return prompt_tokens(values, chat="messages" in values)


def prompt_tokens(values: dict[str, Any], *, chat: bool) -> list[int]:
    """A prompt's token ids: those it lists, or one for each whitespace-separated word.

    Raises:
        BadRequestError: there is no such prompt.
    """
    prompt = _text_of_messages(values.get("messages")) if chat else values.get("prompt")
    if isinstance(prompt, str):
        return list(range(len(prompt.split())))
    # The first id stands for all: looking at each costs more than everything else here.
    if isinstance(prompt, list) and prompt and type(prompt[0]) is int:
        return prompt
    raise BadRequestError("prompt must be one text or one list of token ids", "prompt")


def _text_of_messages(messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        raise BadRequestError("messages must be a list of messages", "messages")
    try:
        return " ".join(_text_of(message["content"]) for message in messages)
    except (TypeError, KeyError):
        raise BadRequestError("each message needs a content with text", "messages") from None


def _text_of(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return " ".join(part["text"] for part in content if part["type"] == "text")


def _output_tokens(values: dict[str, Any]) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        tokens = values.get(name)
        if tokens is not None:
            if type(tokens) is not int or tokens < 1:
                raise BadRequestError(f"{name} must be a whole number, 1 or more", name)
            return tokens
    return _DEFAULT_OUTPUT


def _include_usage(values: dict[str, Any], *, stream: bool) -> bool:
    options = values.get("stream_options")
    if options is None:
        return False
    if not stream or not isinstance(options, dict):
        raise BadRequestError("stream_options is an object, and needs stream", "stream_options")
    return options.get("include_usage") is True


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        values = json.loads(body)
    except ValueError as error:
        raise BadRequestError(f"the body is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise BadRequestError("the body must be a JSON object")
    return values
