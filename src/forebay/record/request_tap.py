"""What a recording learns of one request and its answer while they pass by.

The request's body is held while it comes in, read once (its prompt measured and hashed), and
dropped; the answer is searched as it passes and not held at all. What stays of either is numbers
and pseudonyms.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from forebay.record.answers import AnswerTap
from forebay.record.prompt_texts import Prompt, class_of, read_prompt
from forebay.record.pseudonyms import Pseudonyms
from forebay.record.rows import OUTPUT_TOKENS, PROMPT_TOKENS, Recorded
from forebay.record.sizes import BlockSize, block_names, estimated_tokens, fitting_blocks
from forebay.wire import Head
from forebay.workload import Row

Headers = Iterable[tuple[bytes, bytes]]  # names in lower case

_LARGEST_BODY = 16 << 20  # bytes; a longer one is passed on like any other and judged by its size
_ENVELOPE = 400  # bytes of JSON around the text of an answer that is no stream
_KEYS = (b"authorization", b"x-api-key", b"api-key")
_CLASS = b"x-forebay-class"


class RequestTap:
    """One request and its answer, as they pass.

    Attributes:
        unreadable: the body could not be looked into; the request is recorded by its size.
        text_bytes: of the prompt, where it is text.
    """

    __slots__ = (
        "_answer", "_at_s", "_blocks", "_body", "_class", "_ended", "_exact", "_names", "_on_end",
        "_size", "_size_rule", "_status", "_tenant", "_tokens", "text_bytes", "unreadable",
    )  # fmt: skip

    def __init__(
        self,
        at_s: float,
        headers: Headers,
        size: BlockSize,
        names: Pseudonyms,
        on_end: Callable[[RequestTap, Recorded], None],
    ) -> None:
        """Takes what is known when the request's head is here.

        Args:
            at_s: when it began, seconds from the start of the recording.
            headers: the request's.
            size: of the blocks that prompts are cut into.
            names: of this recording.
            on_end: called once, with this tap and its row.
        """
        self.unreadable = False
        self.text_bytes = 0
        self._at_s = at_s
        self._size_rule = size
        self._names = names
        self._on_end = on_end
        self._body: bytearray | None = bytearray()
        self._size = 0
        self._status = 0
        self._answer: AnswerTap | None = None
        self._class = self._tenant = ""
        self._blocks: tuple[str, ...] = ()
        self._tokens, self._exact = 0, False
        self._ended = False
        for name, value in headers:
            if name in _KEYS and value.strip():
                self._tenant = names.tenant(value.split()[-1])
            elif name == _CLASS:
                self._class = class_of(value.decode("latin-1"), {})

    def request_body(self, data: bytes) -> None:
        """A piece of the request's body."""
        self._size += len(data)
        if self._body is not None:
            self._body += data
            if len(self._body) > _LARGEST_BODY:
                self._body = None
                self.unreadable = True

    def request_done(self) -> None:
        """The request's body is whole: reads it and lets it go. About 1 ms for 100 kB."""
        body, self._body = self._body, None
        if not body:
            return
        try:
            values = json.loads(body)
            self._class = self._class or class_of("", values)
            prompt = read_prompt(values)
            if prompt is not None:
                self._measure(prompt)
        except Exception:  # whatever a client sends is for the server to judge
            self.unreadable = True

    def answer_head(self, status: int, head: Head) -> None:
        """The answer's head."""
        self._status = status
        self._answer = AnswerTap(
            stream=head.is_event_stream, encoding=head.value(b"content-encoding")
        )

    def answer_body(self, data: bytes) -> None:
        """A piece of the answer's body."""
        if self._answer is not None:
            self._answer.feed(data)

    def end(self, outcome: str) -> None:
        """It is over, once.

        Args:
            outcome: ``ok`` when the answer came whole, else as in `rows.Recorded`.
        """
        if self._ended:
            return
        self._ended = True
        self.request_done()
        if self._answer is not None:
            self._answer.finish()
            self.unreadable = self.unreadable or self._answer.unreadable
        self._on_end(self, self._recorded(self._judged(outcome)))

    def _measure(self, prompt: Prompt) -> None:
        self._tokens = estimated_tokens(prompt, self._size_rule)
        self._exact = not prompt.text and bool(prompt.ids)
        self.text_bytes = 0 if prompt.ids else len(prompt.text)
        self._blocks = block_names(prompt, self._size_rule, self._names)

    def _judged(self, outcome: str) -> str:
        if outcome != "ok":
            return outcome
        if self._status in (429, 503):
            return "shed"
        failed = self._status >= 400 or (self._answer is not None and self._answer.failed)
        return "failed" if failed else "ok"

    def _recorded(self, outcome: str) -> Recorded:
        prompt, prompt_counted = self._prompt_tokens()
        output, output_counted = self._output_tokens()
        counted = {PROMPT_TOKENS: prompt_counted, OUTPUT_TOKENS: output_counted}
        row = Row(
            at_s=self._at_s,
            prompt_tokens=prompt,
            output_tokens=output,
            blocks=fitting_blocks(self._blocks, prompt, self._size_rule),
            block_tokens=self._size_rule.tokens,
            class_name=self._class,
            tenant=self._tenant,
        )
        estimated = tuple(name for name, exact in counted.items() if not exact)
        return Recorded(row=row, estimated=estimated, outcome=outcome)

    def _prompt_tokens(self) -> tuple[int, bool]:
        """The prompt's tokens, and whether they were counted."""
        if self._answer is not None and self._answer.prompt_tokens:
            return self._answer.prompt_tokens, True
        return self._tokens or self._size_rule.tokens_in(self._size), self._exact

    def _output_tokens(self) -> tuple[int, bool]:
        """The answer's; a refusal has none, and of those it has none by count."""
        answer = self._answer
        if answer is None or self._status >= 300:
            return 0, True
        if answer.output_tokens is not None:
            return answer.output_tokens, True
        if answer.stream:
            return answer.events, False
        text_bytes = answer.size - _ENVELOPE
        return (self._size_rule.tokens_in(text_bytes) if text_bytes > 0 else 0), False
