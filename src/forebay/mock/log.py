"""The mock's own account: what it was to write when, and when it did.

Every time is a raw `time.perf_counter()` in seconds. On Linux that is CLOCK_MONOTONIC, one clock
for all processes of a machine, so a client there can be held against it.

`written` is read just before the system call that hands the bytes to the kernel, so a client never
sees a token before it. Times cost 16 bytes a token while they are kept. At most `_MOST_TIMES` are;
beyond, further requests are counted and not logged, and the last line says how many.
"""

from __future__ import annotations

import json
import math
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from forebay.mock.mock_requests import Request

_MOST_TIMES = 20_000_000  # token times: 320 MB, an hour at 5,500 tokens/s
_BINS = 100_000  # a second in steps of 10 us
_BINS_PER_S = 1e5


class MockLateness:
    """How late writes were: counts in bins of 10 us up to 1 s, and the exact maximum."""

    def __init__(self) -> None:
        self._counts = [0] * (_BINS + 1)
        self.most_s = 0.0

    def add(self, late_s: float) -> None:
        """One write, `late_s` seconds (0 or more) after it was due."""
        place = int(late_s * _BINS_PER_S)
        self._counts[place if place < _BINS else _BINS] += 1
        if late_s > self.most_s:
            self.most_s = late_s

    def percentile(self, q: float) -> float | None:
        """The lateness (seconds, 10 us too high at most) that `q` % do not exceed; None of none."""
        total = sum(self._counts)
        rank = max(1, math.ceil(q / 100 * total - 1e-9))  # nearest rank, as in measure.percentiles
        for place, count in enumerate(self._counts):
            rank -= count
            if rank <= 0:
                return min((place + 1) / _BINS_PER_S, self.most_s) if place < _BINS else self.most_s
        return None


@dataclass(slots=True, eq=False)
class RequestLog:
    """One request for tokens as the mock saw it.

    Attributes:
        number: its place in the order of arrival, from 0; draws and faults go by it.
        request_id: its `x-request-id` header, empty without.
        path: what was asked.
        arrived_s: when its last byte was read.
        fault: what was done to it, as words; empty when nothing was.
        status: HTTP status of the answer, 0 when none was begun.
        started_s: when it got a slot; None when it never did.
        ended_s: when its last byte was written, or its connection was closed.
        ending: `answered`, `closed` (by the mock's own doing), `left` (by the client), or
            `stopped` (the mock itself ended).
        prompt_tokens, tokens: of the prompt, and written.
        due, written: seconds, for each event with tokens; of a plain answer, for the whole.
        request: what was received, where requests are kept.
    """

    number: int
    request_id: str
    path: str
    arrived_s: float
    fault: str = ""
    status: int = 0
    started_s: float | None = None
    ended_s: float | None = None
    ending: str = ""
    prompt_tokens: int = 0
    tokens: int = 0
    due: array[float] = field(default_factory=lambda: array("d"))
    written: array[float] = field(default_factory=lambda: array("d"))
    request: Request | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {name: getattr(self, name) for name in _PLAIN_FIELDS}
        return {**values, "due": list(self.due), "written": list(self.written)}


_PLAIN_FIELDS = tuple(
    field.name for field in fields(RequestLog) if field.name not in ("due", "written", "request")
)


class MockLog:
    """Everything that the mock knows of what it did."""

    def __init__(self, *, keep: bool) -> None:
        """Keeps an entry per request where asked to; counts and lateness always."""
        self.entries: list[RequestLog] = []
        self.requests = 0
        self.tokens = 0
        self.prompt_tokens = 0
        self.not_kept = 0
        self.late = MockLateness()
        self.faults: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self._keep = keep
        self._room = _MOST_TIMES

    def opened(self, entry: RequestLog) -> None:
        """A request for tokens arrived."""
        self.requests += 1
        if self._keep and self._room > 0:
            self.entries.append(entry)
        else:
            self.not_kept += 1

    def closed(self, entry: RequestLog, ending: str, now: float) -> None:
        """Its story ended at `now`."""
        entry.ending, entry.ended_s = ending, now
        self.statuses[entry.status] += 1
        if entry.fault:
            self.faults[entry.fault] += 1
        self._room -= len(entry.due)

    def wrote(self, entry: RequestLog, tokens: int, due_s: float, written_s: float) -> None:
        """An event with tokens went out."""
        if not entry.due:
            self.prompt_tokens += entry.prompt_tokens
        entry.due.append(due_s)
        entry.written.append(written_s)
        entry.tokens += tokens
        self.tokens += tokens
        self.late.add(written_s - due_s)

    def summary(self) -> dict[str, Any]:
        """Counts, and how late the mock itself was; seconds."""
        p50, p99 = self.late.percentile(50), self.late.percentile(99)
        return {
            "requests": self.requests,
            "tokens": self.tokens,
            "prompt_tokens": self.prompt_tokens,
            "statuses": {str(status): n for status, n in sorted(self.statuses.items())},
            "faults": dict(self.faults),
            "late_p50_s": _short(p50),
            "late_p99_s": _short(p99),
            "late_max_s": _short(None if p50 is None else self.late.most_s),
            "requests_not_logged": self.not_kept,
        }

    def write(self, file: TextIO, summary: dict[str, Any]) -> None:
        """Writes a line for each request kept, in order of arrival, and the summary as the last.

        Raises:
            OSError: the file takes no more.
        """
        file.writelines(f"{line}\n" for line in self._lines(summary))

    def _lines(self, summary: dict[str, Any]) -> Iterator[str]:
        for entry in self.entries:
            yield json.dumps(entry.as_dict())
        yield json.dumps({"summary": summary})


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
