"""Writes a row of a trace for each request for tokens that passes by, and counts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from forebay.record.pseudonyms import Pseudonyms
from forebay.record.request_tap import Headers, RequestTap
from forebay.record.rows import PROMPT_TOKENS, Recorded, row_line
from forebay.record.sizes import BlockSize

_ENDINGS = (b"/completions", b"/responses", b"/v1/messages")


@dataclass(slots=True)
class Totals:
    """What a recorder has seen.

    Attributes:
        outcomes: requests by outcome.
        estimated: requests with a figure that the server did not count.
        unreadable: requests or answers that could not be looked into.
        out_of_sight: connections whose answers could not be followed any more.
        prompt_tokens, output_tokens: of all.
        text_bytes, text_tokens: of the prompts that were text and whose tokens the server counted.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    estimated: int = 0
    unreadable: int = 0
    out_of_sight: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    text_bytes: int = 0
    text_tokens: int = 0

    @property
    def bytes_per_token(self) -> float | None:
        """Of prompts, as the server counts; None where it counted none."""
        return self.text_bytes / self.text_tokens if self.text_tokens else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        ratio = self.bytes_per_token
        return {
            "requests": self.outcomes.total(),
            "outcomes": dict(self.outcomes),
            "with_estimates": self.estimated,
            "unreadable_bodies": self.unreadable,
            "connections_out_of_sight": self.out_of_sight,
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "bytes_per_token": None if ratio is None else round(ratio, 2),
        }


class Recorder:
    """Writes a row for each request for tokens.

    Attributes:
        totals: what was recorded.
        fault: why nothing is written any more; empty while all is well. Traffic goes on.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        size: BlockSize | None = None,
        names: Pseudonyms | None = None,
    ) -> None:
        """Takes what writes a line."""
        self.totals = Totals()
        self.fault = ""
        self.size = size or BlockSize()
        self.names = names or Pseudonyms()
        self._write = write

    def tap(self, at_s: float, method: bytes, target: bytes, headers: Headers) -> RequestTap | None:
        """What watches a request that began at `at_s` (seconds); None for one without tokens."""
        path = target.partition(b"?")[0].rstrip(b"/")
        if method != b"POST" or not path.endswith(_ENDINGS):
            return None
        return RequestTap(at_s, headers, self.size, self.names, self._ended)

    def _ended(self, tap: RequestTap, recorded: Recorded) -> None:
        """Counts a request and writes its row."""
        totals, row = self.totals, recorded.row
        totals.outcomes[recorded.outcome] += 1
        totals.estimated += bool(recorded.estimated)
        totals.unreadable += tap.unreadable
        if tap.text_bytes and PROMPT_TOKENS not in recorded.estimated:
            totals.text_bytes += tap.text_bytes
            totals.text_tokens += row.prompt_tokens
        totals.prompt_tokens += row.prompt_tokens
        totals.output_tokens += row.output_tokens
        if self.fault:
            return
        try:
            self._write(row_line(recorded))
        except OSError as error:
            self.fault = error.strerror or str(error)
