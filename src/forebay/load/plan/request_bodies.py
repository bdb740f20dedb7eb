"""Request bodies as an OpenAI-compatible endpoint takes them, written without a JSON encoder.

Prompts are digits and commas, or letters and spaces: nothing in them needs escaping, and encoding
a prompt of 1,400 ids through `json` costs more than sending it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from forebay.load.plan.content import Content
from forebay.workload import Request, Segment

Api = Literal["completions", "chat"]
PATHS: dict[Api, str] = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What every body holds besides its prompt.

    Attributes:
        model: name of the model.
        temperature: of sampling; 0 is greedy.
        exact_output: ask for outputs of exactly the planned length (``ignore_eos``, which vLLM and
            SGLang know); else the planned length is the most.
        stream: ask for an event stream, with the server's own token counts at its end.
        first_overhead: tokens that a chat template adds to a first message.
        turn_overhead: tokens that it adds to each further pair of messages.
    """

    model: str
    temperature: float = 0.0
    exact_output: bool = True
    stream: bool = True
    first_overhead: int = 0
    turn_overhead: int = 0

    def tail(self, output_tokens: int) -> bytes:
        """The keys after the prompt, with the closing brace."""
        keys: dict[str, object] = {"max_tokens": output_tokens, "temperature": self.temperature}
        if self.exact_output:
            keys["ignore_eos"] = True
        if self.stream:
            keys |= {"stream": True, "stream_options": {"include_usage": True}}
        return json.dumps(keys, separators=(",", ":")).encode()[1:]

    @property
    def head(self) -> bytes:
        """The opening brace and the model."""
        return b'{"model":%b,' % json.dumps(self.model).encode()


class Spoken:
    """What has been said in one session, as the endpoint takes it."""

    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts: list[bytes] = []


class BodyMaker(Protocol):
    """Makes the bodies of one session's turns, in order."""

    path: str

    def ask(self, request: Request, spoken: Spoken) -> bytes:
        """The body that asks; what it adds is spoken from then on."""

    def answered(self, request: Request, spoken: Spoken, text: str) -> None:
        """Takes the answer into what has been spoken."""


class CompletionsBodies:
    """Prompts as token ids. An answer's own ids are not known: as many others stand for it."""

    path = PATHS["completions"]

    def __init__(self, form: Form, content: Content) -> None:
        self._content = content
        self._head = form.head + b'"prompt":['
        self._tails = _Tails(form)

    def ask(self, request: Request, spoken: Spoken) -> bytes:
        """The body that asks; what it adds is spoken from then on."""
        spoken.parts.append(self._content.join(request.segments))
        prompt = b",".join(spoken.parts)
        return b"%b%b],%b" % (self._head, prompt, self._tails[request.output_tokens])

    def answered(self, request: Request, spoken: Spoken, text: str) -> None:
        """Takes as many ids as the answer was long."""
        name = f"answer to {request.segments[-1].name}"
        spoken.parts.append(self._content.write(Segment(name, request.output_tokens)))


class ChatBodies:
    """Prompts as messages; each turn's is shortened by what the chat template adds to it."""

    path = PATHS["chat"]

    def __init__(self, form: Form, content: Content) -> None:
        self._form = form
        self._content = content
        self._head = form.head + b'"messages":['
        self._tails = _Tails(form)

    def ask(self, request: Request, spoken: Spoken) -> bytes:
        """The body that asks; what it adds is spoken from then on."""
        form = self._form
        overhead = form.turn_overhead if spoken.parts else form.first_overhead
        text = self._content.join(_shortened(request.segments, overhead))
        spoken.parts.append(b'{"role":"user","content":"%b"}' % text)
        messages = b",".join(spoken.parts)
        return b"%b%b],%b" % (self._head, messages, self._tails[request.output_tokens])

    def answered(self, request: Request, spoken: Spoken, text: str) -> None:
        """Takes the answer as the assistant's message."""
        message = {"role": "assistant", "content": text}
        spoken.parts.append(json.dumps(message, separators=(",", ":")).encode())


class _Tails(dict[int, bytes]):
    """Tails by output length, each made once."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self._form = form

    def __missing__(self, output_tokens: int) -> bytes:
        tail = self[output_tokens] = self._form.tail(output_tokens)
        return tail


def _shortened(segments: Sequence[Segment], by: int) -> Sequence[Segment]:
    """The segments with up to `by` tokens less at the end; one token always stays."""
    left = list(segments)
    while by > 0:
        last = left.pop()
        if last.tokens > by:
            return [*left, Segment(last.name, last.tokens - by, last.shared)]
        by -= last.tokens
        if not left:
            return [Segment(last.name, 1, last.shared)]
    return left


def body_maker(api: Api, form: Form, content: Content) -> BodyMaker:
    """The maker for an API; chat takes words, completions ids."""
    return ChatBodies(form, content) if api == "chat" else CompletionsBodies(form, content)
