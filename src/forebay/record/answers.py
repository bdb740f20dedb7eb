r"""Token counts of an answer that passes by, found without decoding or keeping it.

Both kinds of answer are searched for the server's own counts as they pass: in JSON a key of that
name cannot occur inside a text, whose quotes are escaped (``\"prompt_tokens\":``). Where a stream
carries none, its events with text are counted, about a token each.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from forebay.wire import LONGEST_LINE, lines_of

# OpenAI's names, and those of the Responses and Messages APIs.
_COUNT = re.compile(rb'"(prompt|completion|input|output)_tokens"\s*:\s*(\d{1,12})')
_PROMPT = frozenset({b"prompt", b"input"})
_TEXT = re.compile(
    rb'"(?:text|content|reasoning_content|reasoning|delta|arguments|partial_json|thinking)"'
    rb'\s*:\s*"[^"]'
)
_ERROR = re.compile(rb'^data:\s*\{\s*(?:"(?:object|type)"\s*:\s*"error"|"error"\s*:\s*[{"])')
_DATA = b"data:"
_OVERLAP = 64  # bytes; longer than a key with its number
_STEP = 1 << 20  # bytes unpacked at a time: 1 MB of gzip may hold 1 GB
READABLE = (b"gzip", b"deflate", b"identity")  # content encodings that can be looked into


class AnswerTap:
    """Reads one answer's body as it passes.

    Attributes:
        prompt_tokens, output_tokens: as the server counted; None where it did not say.
        events: events of a stream that carry text.
        size: bytes of the body, unpacked.
        failed: an error came inside a stream that had begun well.
        stream: whether it is an event stream.
        unreadable: it was not packed as its head said.
    """

    __slots__ = (
        "_inflate", "_rest", "events", "failed", "output_tokens", "prompt_tokens", "size", "stream",
        "unreadable",
    )  # fmt: skip

    def __init__(self, *, stream: bool, encoding: bytes = b"") -> None:
        """Takes what the answer's head says.

        Args:
            stream: whether it is an event stream.
        unreadable: it was not packed as its head said.
            encoding: its content encoding, as written; one that is not readable is not looked into.
        """
        self.prompt_tokens: int | None = None
        self.output_tokens: int | None = None
        self.events = 0
        self.size = 0
        self.failed = self.unreadable = False
        self.stream = stream
        self._rest = b""
        encoding = encoding.strip().lower()
        # 47: 32 KiB window, gzip or zlib told by its own head.
        self._inflate = zlib.decompressobj(47) if encoding in (b"gzip", b"deflate") else None

    def feed(self, data: bytes) -> None:
        """Takes the next bytes of the body."""
        for piece in self._unpacked(data):
            self.size += len(piece)
            if self.stream:
                self._feed_stream(piece)
            else:
                seen = self._rest + piece
                self._search(seen)
                self._rest = seen[-_OVERLAP:]

    def finish(self) -> None:
        """The body ended: a last line need not have its line break."""
        if self.stream and self._rest:
            self._line(self._rest)

    def _unpacked(self, data: bytes) -> Iterator[bytes]:
        if self._inflate is None:
            yield data
            return
        while data and not self._inflate.eof and not self.unreadable:
            try:
                yield self._inflate.decompress(data, _STEP)
            except zlib.error:
                self.unreadable = True
            data = self._inflate.unconsumed_tail

    def _feed_stream(self, data: bytes) -> None:
        lines, rest = lines_of(self._rest, data)
        self._rest = rest[-LONGEST_LINE:]
        for line in lines.split(b"\n"):
            self._line(line)

    def _line(self, line: bytes) -> None:
        if not line.startswith(_DATA):
            return
        if _TEXT.search(line):
            self.events += 1
        if b'_tokens"' in line:
            self._search(line)
        elif _ERROR.match(line):
            self.failed = True

    def _search(self, data: bytes) -> None:
        """Takes the last counts in these bytes: later ones are the more complete."""
        for name, count in _COUNT.findall(data):
            if name in _PROMPT:
                self.prompt_tokens = int(count)
            else:
                self.output_tokens = int(count)
