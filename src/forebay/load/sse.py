r"""Reads an OpenAI-style event stream without decoding its JSON.

Decoding 48 chunks costs more than everything else the client does for a request, and this client
shares its cores with the server it measures. A content token is therefore recognised by its
bytes: a ``"text"`` or ``"content"`` key whose string is not empty. That is exact, not a guess:
inside a JSON string the quotes of such a key would be escaped (``\"text\":``).
"""

from __future__ import annotations

import re
from array import array

_CONTENT = re.compile(rb'"(?:text|content|reasoning_content|reasoning)"\s*:\s*"[^"]')
_ERROR = re.compile(rb'"error"\s*:\s*[{"]')
_USAGE = re.compile(rb'"(prompt|completion)_tokens"\s*:\s*(\d+)')
_DONE = b"[DONE]"
_LONGEST_LINE = 1 << 20


class TokenStream:
    """The content events of one response as its bytes arrive, split anywhere.

    ``events`` counts data lines that carry text; under load a server may put several tokens in
    one, so `usage` (the server's own count) is preferred where it was sent.
    """

    __slots__ = ("_last", "_rest", "done", "error", "events", "first_s", "last_s", "times")

    def __init__(self, *, keep_times: bool = False) -> None:
        self.events = 0
        self.first_s: float | None = None
        self.last_s: float | None = None
        self.times: array[float] | None = array("d") if keep_times else None
        self.done = False
        self.error: bytes | None = None
        self._rest = b""
        self._last = b""

    def feed(self, data: bytes, now: float) -> None:
        """Takes the next bytes of the body, received at ``now`` (seconds)."""
        if not self._rest and data.find(b"\n") == len(data) - 2 and data.startswith(b"data:"):
            self._data_line(data, now)  # one whole event, as most servers send them
            return
        if self._rest:
            data = self._rest + data
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        if len(self._rest) > _LONGEST_LINE:
            self._rest = b""
            self.error = b"an event line longer than 1 MiB"
        for line in data[:end].split(b"\n"):
            if line.startswith(b"data:"):
                self._data_line(line, now)

    def finish(self, now: float) -> None:
        """The body ended at ``now``: a last line need not have its line break."""
        if self._rest:
            self.feed(b"\n", now)

    def usage(self) -> dict[str, int]:
        """The server's own ``prompt`` and ``completion`` token counts, where it sent them.

        They stand in the last data line before ``[DONE]``.
        """
        return usage_of(self._last)

    def _data_line(self, line: bytes, now: float) -> None:
        if _CONTENT.search(line):
            self.events += 1
            self.last_s = now
            if self.first_s is None:
                self.first_s = now
            if self.times is not None:
                self.times.append(now)
        elif line[5:].strip() == _DONE:
            self.done = True
            return
        elif _ERROR.search(line):
            self.error = line[5:].strip()
            return
        self._last = line


def usage_of(body: bytes | bytearray) -> dict[str, int]:
    """Token counts named in a JSON body, found without decoding it."""
    return {name.decode(): int(count) for name, count in _USAGE.findall(body)}
