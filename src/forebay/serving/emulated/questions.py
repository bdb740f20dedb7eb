"""What a body asks of the emulated engine."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

from forebay.serving.emulated.text import encode, render

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
    """

    path: str
    prompt: list[int]
    max_tokens: int
    stop_after: int
    stream: bool
    usage: bool

    @property
    def is_chat(self) -> bool:
        """Whether the answer is a message."""
        return self.path == CHAT


def questions_of(path: str, data: dict[str, Any], context_tokens: int) -> list[Question]:
    """Every answer that a body asks for; none when a prompt is longer than the context."""
    prompts = prompts_of(path, data)
    if any(len(prompt) >= context_tokens for prompt in prompts):
        return []
    options = data.get("stream_options") or {}
    asked = data.get("max_completion_tokens") or data.get("max_tokens")
    if asked is None and path == COMPLETIONS:
        asked = _COMPLETION_TOKENS
    found = []
    for prompt in prompts:
        room = context_tokens - len(prompt)
        most = min(asked or room, room)
        found.append(
            Question(
                path=path,
                prompt=prompt,
                max_tokens=most,
                stop_after=most + 1 if data.get("ignore_eos") else natural_length(prompt),
                stream=data.get("stream") is True,
                usage=bool(options.get("include_usage")),
            )
        )
    return found * (data.get("n") or 1)


def natural_length(prompt: list[int]) -> int:
    """Tokens after which an unbounded answer to this prompt ends: lognormal, by the prompt alone.

    Equal prompts get equal answers, here and in any other replica.
    """
    digest = hashlib.blake2b(repr(prompt[-64:]).encode(), digest_size=16).digest()
    first, second = (int.from_bytes(digest[i : i + 8]) / 2**64 for i in (0, 8))
    normal = math.sqrt(-2 * math.log(first or 0.5)) * math.cos(2 * math.pi * second)  # Box-Muller
    return max(1, round(_ANSWER_P50 * math.exp(_ANSWER_SIGMA * normal)))


def prompts_of(path: str, data: dict[str, Any]) -> list[list[int]]:
    """The prompts of a body as token ids."""
    if path == CHAT:
        return [render(data.get("messages", []), data.get("tools"))]
    prompt = data.get("prompt", "")
    if isinstance(prompt, str):
        return [encode(prompt)]
    if prompt and isinstance(prompt[0], int):
        return [prompt]
    return [encode(one) if isinstance(one, str) else one for one in prompt]
