r"""Reads an OpenAI-style event stream without decoding its JSON.

Decoding 48 chunks costs more than everything else the client does for a request, and this client
shares its cores with the server it measures. A content token is therefore recognised by its
bytes: a ``"text"`` or ``"content"`` key whose string is not empty. That is exact, not a guess:
inside a JSON string the quotes of such a key would be escaped (``\"text\":``).
"""

from __future__ import annotations

import json
import re
from array import array

_CONTENT = re.compile(rb'"(?:text|content|reasoning_content|reasoning)"\s*:\s*"[^"]')
_ERROR = re.compile(rb'"error"\s*:\s*[{"]')
_USAGE = re.compile(rb'"(prompt|completion|cached)_tokens"\s*:\s*(\d+)')
_DONE = b"[DONE]"
DONE = b"data: [DONE]\n\n"
LONGEST_LINE = 1 << 20
_LONG_CHUNK = 1024  # bytes from which a chunk holds several events


class TokenStream:
    """The content events of one response as its bytes arrive, split anywhere.

    ``events`` counts data lines that carry text; under load a server may put several tokens in
    one, so `usage` (the server's own count) is preferred where it was sent.
    """

    __slots__ = (
        "_kept", "_last", "_rest", "done", "error", "events", "first_s", "last_s", "times"
    )  # fmt: skip

    def __init__(self, *, keep_times: bool = False, keep_text: bool = False) -> None:
        self.events = 0
        self.first_s: float | None = None
        self.last_s: float | None = None
        self.times: array[float] | None = array("d") if keep_times else None
        self.done = False
        self.error: bytes | None = None
        self._kept: list[bytes] | None = [] if keep_text else None
        self._rest = b""
        self._last = b""

    def feed(self, data: bytes, now: float) -> None:
        """Takes the next bytes of the body, received at ``now`` (seconds)."""
        if not self._rest and data.find(b"\n") == len(data) - 2 and data.startswith(b"data:"):
            self._data_line(data, now)  # one whole event, as most servers send them
            return
        lines, self._rest = lines_of(self._rest, data)
        if len(self._rest) > LONGEST_LINE:
            self._rest = b""
            self.error = b"an event line longer than 1 MiB"
        if len(lines) > _LONG_CHUNK and self._kept is None and not _ERROR.search(lines):
            self._many_lines(lines, now)
        else:
            self._lines(lines, now)

    def finish(self, now: float) -> None:
        """The body ended at ``now``: a last line need not have its line break."""
        if self._rest:
            self.feed(b"\n", now)

    def usage(self) -> dict[str, int]:
        """The server's own ``prompt``, ``completion`` and ``cached`` token counts, where sent.

        They stand in the last data line before ``[DONE]``.
        """
        return usage_of(self._last)

    def text(self) -> str:
        """The text of all events, where it was kept."""
        return "".join(text_of(line[5:]) for line in self._kept or ())

    def _lines(self, data: bytes, now: float) -> None:
        for line in data.split(b"\n"):
            if line.startswith(b"data:"):
                self._data_line(line, now)

    def _many_lines(self, data: bytes, now: float) -> None:
        """What `_lines` does, at a third of the cost a line, where no line holds an error.

        A finished answer comes in chunks of a hundred events. Content is looked for in the whole
        chunk at once, and counted once a line.
        """
        count, end = 0, 0
        for match in _CONTENT.finditer(data):
            at = match.start()
            if at >= end:
                count += data.startswith(b"data:", data.rfind(b"\n", 0, at) + 1)
                end = data.find(b"\n", at)
        if data.find(_DONE, 0, end) >= 0:  # in a text, or too early
            self._lines(data, now)
            return
        if count:
            self.events += count
            self.last_s = now
            if self.first_s is None:
                self.first_s = now
            if self.times is not None:
                self.times.extend([now] * count)
            self._last = data[data.rfind(b"\n", 0, end) + 1 : end]
        self._lines(data[end:], now)

    def _data_line(self, line: bytes, now: float) -> None:
        if _CONTENT.search(line):
            self.events += 1
            self.last_s = now
            if self.first_s is None:
                self.first_s = now
            if self.times is not None:
                self.times.append(now)
            if self._kept is not None:
                self._kept.append(line)
        elif line[5:].strip() == _DONE:
            self.done = True
            return
        elif _ERROR.search(line):
            self.error = line[5:].strip()
            return
        self._last = line


def event(data: bytes) -> bytes:
    """One event."""
    return b"data: %b\n\n" % data


def lines_of(rest: bytes, data: bytes) -> tuple[bytes, bytes]:
    """The whole lines once `data` follows `rest`, and the rest of them."""
    if rest:
        data = rest + data
    end = data.rfind(b"\n") + 1
    return data[:end], data[end:]


def text_of(body: bytes | bytearray) -> str:
    """The text of a completion, or of one event of its stream; empty when there is none."""
    try:
        choice = json.loads(body)["choices"][0]
        message = choice.get("delta") or choice.get("message") or choice
        return str(message.get("content") or message.get("text") or "")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return ""


def usage_of(body: bytes | bytearray) -> dict[str, int]:
    """Token counts named in a JSON body, found without decoding it."""
    return {name.decode(): int(count) for name, count in _USAGE.findall(body)}
