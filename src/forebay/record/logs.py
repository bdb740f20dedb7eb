"""From request logs to a trace: streaming, so that the length of a log does not matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from forebay.record.access_logs import PATTERNS, access_log_reader
from forebay.record.files import read_lines
from forebay.record.log_lines import LogLine, ReadLine, Rules, UnreadableLineError
from forebay.record.openai_logs import read_openai_line
from forebay.record.own_logs import read_own_line
from forebay.record.rows import Recorded, row_line, whole_trace
from forebay.workload import Row

FORMATS = ("openai", *PATTERNS, "forebay")
MOST_UNREADABLE = 0.05  # of the lines: with more, the format is likely not the one named
_SHOWN = 5

OnPlace = Callable[[int, int], None]  # bytes read of all files so far, lines


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that could not be read; `reason` repeats nothing of it."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(slots=True, kw_only=True)
class LogTotals:
    """What came of the logs.

    Attributes:
        lines: that are not empty.
        recorded: of them, requests written.
        unanswered: of those, without a token in or out: a replay leaves them out.
        unreadable: lines that were not written.
        estimated: requests with a figure that was not counted.
        first_unreadable: the first few.
        since, until: the earliest and the latest request, seconds since 1970.
    """

    lines: int = 0
    recorded: int = 0
    unanswered: int = 0
    unreadable: int = 0
    estimated: int = 0
    first_unreadable: list[Unreadable] = field(default_factory=list)
    since: float | None = None
    until: float | None = None

    @property
    def readable_enough(self) -> bool:
        """Whether something was recorded, and no more than a few lines were not."""
        return self.recorded > 0 and self.unreadable <= MOST_UNREADABLE * self.lines

    def count(self, request: LogLine) -> None:
        """One more request."""
        self.recorded += 1
        self.unanswered += not (request.prompt_tokens and request.output_tokens)
        self.estimated += bool(request.estimated)
        self.since = request.at if self.since is None else min(self.since, request.at)
        self.until = request.at if self.until is None else max(self.until, request.at)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "since": _iso(self.since), "until": _iso(self.until)}


class UnreadableLogError(ValueError):
    """Too little of the logs could be read; no trace was written. `totals` says how little."""

    def __init__(self, totals: LogTotals) -> None:
        self.totals = totals
        super().__init__(f"{totals.unreadable} of {totals.lines} lines cannot be read")


def line_reader(format_name: str, pattern: str | None = None) -> ReadLine:
    """What reads lines of a format; a pattern takes the place of an access log's own.

    Raises:
        ValueError: there is no such format, or it has no pattern, or the pattern is wrong.
    """
    if format_name in PATTERNS:
        return access_log_reader(PATTERNS[format_name] if pattern is None else pattern)
    if format_name not in FORMATS:
        raise ValueError(f"{format_name!r} is none of {', '.join(FORMATS)}")
    if pattern is not None:
        raise ValueError(f"a pattern goes with {' or '.join(PATTERNS)}, not with {format_name}")
    return read_openai_line if format_name == "openai" else read_own_line


def record_logs(
    names: Sequence[str],
    read: ReadLine,
    rules: Rules,
    output: Path,
    on_place: OnPlace | None = None,
) -> LogTotals:
    """Writes the requests of the logs, in their order, as a trace. Times count from the first.

    Raises:
        UnreadableLogError: more than `MOST_UNREADABLE` of the lines, or all, cannot be read.
        UnreadableFileError: a log is packed, and damaged.
        OSError: a log cannot be read, or the trace not be written.
    """
    with whole_trace(output) as file:
        recording = _Recording(read, rules, file)
        for name in names:
            recording.take_all(name, on_place)
        if not recording.totals.readable_enough:
            raise UnreadableLogError(recording.totals)
    return recording.totals


class _Recording:
    """Logs on their way into a trace."""

    def __init__(self, read: ReadLine, rules: Rules, file: TextIO) -> None:
        self.totals = LogTotals()
        self._read = read
        self._rules = rules
        self._file = file
        self._origin: float | None = None
        self._earlier_bytes = 0  # of the files before this one

    def take_all(self, name: str, on_place: OnPlace | None) -> None:
        """Reads one log."""
        reached = 0

        def tell(place: int) -> None:
            nonlocal reached
            reached = place
            if on_place is not None:
                on_place(self._earlier_bytes + place, self.totals.lines)

        for number, line in enumerate(read_lines(name, tell), 1):
            if line is None or line.strip():
                self._take(name, number, line)
        self._earlier_bytes += reached

    def _take(self, name: str, number: int, line: str | None) -> None:
        totals = self.totals
        totals.lines += 1
        try:
            if line is None:
                raise UnreadableLineError("is longer than 64 MiB")
            request = self._read(line, self._rules)
        except UnreadableLineError as error:
            totals.unreadable += 1
            if len(totals.first_unreadable) < _SHOWN:
                totals.first_unreadable.append(Unreadable(name, number, str(error)))
            return
        if self._origin is None:
            self._origin = request.at
        totals.count(request)
        row = _row(request, self._origin)
        self._file.write(row_line(Recorded(row=row, estimated=request.estimated)))


def _row(request: LogLine, origin: float) -> Row:
    return Row(
        at_s=request.at - origin,
        prompt_tokens=request.prompt_tokens,
        output_tokens=request.output_tokens,
        blocks=request.blocks,
        block_tokens=request.block_tokens,
        class_name=request.class_name,
        tenant=request.tenant,
    )


def _iso(moment: float | None) -> str | None:
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
