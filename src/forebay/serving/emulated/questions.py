"""What a body asks of the emulated engine."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any

from forebay.serving.emulated.text import encode, render
from forebay.serving.http import LIMITS_OF, RequestRefusedError
from forebay.wire import prompts_in

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"

_ANSWER_P50, _ANSWER_SIGMA = 200, 0.7  # tokens of an answer that nobody bounds; lognormal
_COMPLETION_TOKENS = 16  # of a completion that says nothing, as OpenAI's


@dataclass(frozen=True, slots=True)
class Question:
    """One answer that is asked for.

    Attributes:
        path: of the API.
        prompt: token ids.
        max_tokens: most tokens of the answer.
        stop_after: tokens after which it ends by itself.
        stream: whether the tokens are sent as they come.
        usage: whether a stream ends with its counts.
        sample: which of the answers to its prompt it is, from 0.
    """

    path: str
    prompt: list[int]
    max_tokens: int
    stop_after: int
    stream: bool
    usage: bool
    sample: int = 0

    @property
    def is_chat(self) -> bool:
        """Whether the answer is a message."""
        return self.path == CHAT


def questions_of(path: str, data: dict[str, Any], context_tokens: int) -> list[Question]:
    """Every answer that a body asks for, those to one prompt beside each other.

    Raises:
        RequestRefusedError: 400: a prompt is empty or longer than the context, or a field is not
            what it should be.
    """
    prompts = prompts_of(path, data)
    for prompt in prompts:
        _check_length(prompt, context_tokens)
    options = data.get("stream_options")
    asked = next(filter(None, (_count(data, name) for name in LIMITS_OF[path])), None)
    if asked is None and path == COMPLETIONS:
        asked = _COMPLETION_TOKENS
    found = []
    for prompt in prompts:
        room = context_tokens - len(prompt)
        most = min(asked or room, room)
        question = Question(
            path=path,
            prompt=prompt,
            max_tokens=most,
            stop_after=most + 1 if data.get("ignore_eos") else natural_length(prompt),
            stream=data.get("stream") is True,
            usage=isinstance(options, dict) and bool(options.get("include_usage")),
        )
        found += [replace(question, sample=k) for k in range(_count(data, "n") or 1)]
    return found


def _check_length(prompt: list[int], context_tokens: int) -> None:
    if not prompt:
        raise RequestRefusedError(400, "The prompt is empty.", "invalid_prompt", "prompt")
    if len(prompt) >= context_tokens:
        message = f"The prompt has {len(prompt)} tokens; the context holds {context_tokens} and "
        raise RequestRefusedError(
            400, f"{message}an answer needs one at least.", "context_length_exceeded", "prompt"
        )


def _count(data: dict[str, Any], field: str) -> int | None:
    value = data.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        message = f"{field} must be a whole number of 1 or more, and is {value!r}."
        raise RequestRefusedError(400, message, "invalid_type", field)
    return value


def natural_length(prompt: list[int]) -> int:
    """Tokens after which an unbounded answer to this prompt ends: lognormal, by the prompt alone.

    Equal prompts get equal answers, here and in any other replica.
    """
    digest = hashlib.blake2b(repr(prompt[-64:]).encode(), digest_size=16).digest()
    first, second = (int.from_bytes(digest[i : i + 8]) / 2**64 for i in (0, 8))
    normal = math.sqrt(-2 * math.log(first or 0.5)) * math.cos(2 * math.pi * second)  # Box-Muller
    return max(1, round(_ANSWER_P50 * math.exp(_ANSWER_SIGMA * normal)))


def prompts_of(path: str, data: dict[str, Any]) -> list[list[int]]:
    """The prompts of a body as token ids.

    Raises:
        RequestRefusedError: 400: there is none, or it is neither text nor token ids.
    """
    if path == CHAT:
        messages = data.get("messages")
        if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
            message = "messages must be a list of objects."
            raise RequestRefusedError(400, message, "invalid_type", "messages")
        return [render(messages, data.get("tools"))]
    return [ids_of(one) for one in prompts_in(data.get("prompt", ""))]


def ids_of(prompt: Any) -> list[int]:
    """One prompt, a text or token ids, as token ids.

    Raises:
        RequestRefusedError: 400: it is neither.
    """
    if isinstance(prompt, str):
        return encode(prompt)
    if isinstance(prompt, list) and all(type(one) is int and one >= 0 for one in prompt):
        return prompt
    raise RequestRefusedError(
        400, "A prompt must be a text or a list of token ids.", "invalid_prompt", "prompt"
    )
