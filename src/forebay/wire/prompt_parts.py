"""What of a body becomes tokens of the prompt, in any of the APIs' shapes.

The router compares the fields that most messages have, and a recording hashes them; the gate prices
the text of all, since a key that nobody counts would hide a prompt. The order in which fields are
rendered, and what is an image, sound or film, is the same for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

BEFORE_MESSAGES = ("tools", "functions", "documents", "system", "instructions")
CONVERSATION = ("messages", "input")
# Of messages and their parts, whose values are text or hold some. What an assistant thought is
# rendered by many templates of models that think.
TEXT_FIELDS = (
    "content", "text", "output", "arguments", "thinking", "reasoning", "reasoning_content",
)  # fmt: skip
# Of those whose values are printed as JSON: what a tool is, or was, called with.
DUMPED_FIELDS = frozenset(("tool_calls", "input", "function_call"))
# An image is about a thousand tokens in current models; what sound and film are is not known here.
MEDIA_BYTES = 4096
_MEDIA_FIELDS = frozenset(
    (
        "image_url", "video_url", "audio_url", "input_audio", "image_embeds", "audio_embeds",
        "video_embeds",
    )
)  # fmt: skip
_MEDIA_TYPES = frozenset(("image", "input_image", *_MEDIA_FIELDS))


def is_media(part: dict[str, Any]) -> bool:
    """Whether a part of a message is an image, sound or film.

    A part is what its type says, and where it says none what it holds. A message is none, whatever
    further keys it has: vLLM drops them, and renders its text.
    """
    if "role" in part:
        return False
    if "type" in part:
        return part["type"] in _MEDIA_TYPES
    return not _MEDIA_FIELDS.isdisjoint(part)


def given_to_tool(part: dict[str, Any]) -> Any:
    """What a tool was called with, where it is an object: Anthropic's; None elsewhere."""
    return part.get("input") if part.get("type") == "tool_use" else None


def prompt_parts(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a conversation's body has rendered, in the order in which templates do: (key, value).

    Of `messages` and `input`, one message at a time.
    """
    for key in BEFORE_MESSAGES:
        if value := body.get(key):
            yield key, value
    for key in CONVERSATION:
        value = body.get(key)
        for message in value if isinstance(value, list) else [value] if value else []:
            yield key, message


def prompts_in(prompt: Any) -> list[Any]:
    """The prompts, each a text or token ids, of a completion's `prompt`."""
    several = isinstance(prompt, list) and prompt and not isinstance(prompt[0], int)
    return prompt if several else [prompt]
