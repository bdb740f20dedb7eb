"""What a request's body asks, as far as a recording needs it: the prompt's text and its class.

The text is put together in the order in which chat templates lay it out (tools, system, messages),
so that equal beginnings here are equal beginnings in the engine's prefix cache. Nothing of it is
kept: it is measured, hashed and dropped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from forebay.wire import CONVERSATION, prompt_parts

CLASSES = frozenset({"interactive", "batch"})


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt: text, or token ids. Never shown: its repr tells sizes only.

    Attributes:
        text: UTF-8 bytes; empty where the prompt is ids.
        ids: token ids; empty where it is text.
        whole: whether it is one prompt: a list of several shares no beginning with anything.
    """

    text: bytes = field(default=b"", repr=False)
    ids: list[int] = field(default_factory=list, repr=False)
    whole: bool = True


def read_prompt(body: Mapping[str, Any]) -> Prompt | None:
    """The prompt of a decoded body of ``/v1/completions``, ``/v1/chat/completions``,
    ``/v1/responses`` or ``/v1/messages``; None where it has none.
    """
    prompt = body.get("prompt")
    if prompt is not None:
        return _completions_prompt(prompt)
    said = body.get("messages", body.get("input"))
    if said is None:
        return None
    if not isinstance(said, str | list | dict):
        raise TypeError("messages are a text or a list")
    return Prompt("".join(_conversation(body)).encode("utf-8", "surrogatepass"))


def class_of(header: str, body: Mapping[str, Any]) -> str:
    """The traffic class, as Forebay's gate reads it: by its header, or OpenAI's flex tier.

    A header that names no class is dropped, not repeated: a client may put anything there.
    """
    named = header.strip().lower()
    if named in CLASSES:
        return named
    return "batch" if body.get("service_tier") in ("flex", "batch") else ""


def _completions_prompt(prompt: object) -> Prompt | None:
    if isinstance(prompt, str):
        return Prompt(prompt.encode("utf-8", "surrogatepass"))
    if not isinstance(prompt, list) or not prompt:
        return None
    if set(map(type, prompt)) == {int}:
        return Prompt(ids=prompt)
    parts = [part for item in prompt if (part := _completions_prompt(item)) is not None]
    text = b"".join(part.text for part in parts)
    return Prompt(text, [number for part in parts for number in part.ids], whole=len(parts) == 1)


def _conversation(body: Mapping[str, Any]) -> Iterator[str]:
    for key, value in prompt_parts(body):
        if key == "tools":
            yield f"{_json(value)}\n"
        elif key in ("system", "instructions"):
            yield f"system\n{''.join(_content(value))}\n"
        elif key in CONVERSATION:
            yield from _message(value)


def _message(message: object) -> Iterator[str]:
    if not isinstance(message, dict):
        yield f"user\n{''.join(_content(message))}\n"
        return
    yield f"{message.get('role') or message.get('type') or 'user'}\n"
    yield from _content(message.get("content"))
    for key in ("tool_calls", "arguments", "output"):  # calls and their results are prompt too
        if message.get(key):
            yield from _content(message[key])
    yield "\n"


def _content(content: object) -> Iterator[str]:
    """A text, or the parts that it is made of."""
    if content is None:
        return
    if isinstance(content, str):
        yield content
        return
    for part in content if isinstance(content, list) else [content]:
        yield _part(part)


def _part(part: object) -> str:
    """A part's text; of an image or a file a digest, as good as itself for being equal.

    Its base64 would count as hundreds of thousands of tokens, which it is not.
    """
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        text = part.get("text")
        if isinstance(text, str):
            return text
        if part.get("type") in ("function", "tool_use", "tool_result"):
            return _json(part)
    return hashlib.sha256(_json(part).encode("utf-8", "surrogatepass")).hexdigest()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def texts_of(choices: Iterable[Any]) -> Iterator[str]:
    """The texts of an answer's choices, whichever API it came from."""
    for choice in choices:
        if not isinstance(choice, dict):
            continue
        message = choice.get("message") or choice.get("delta") or choice
        if isinstance(message, dict):
            for key in ("text", "content", "reasoning_content", "tool_calls"):
                yield from _content(message.get(key))
