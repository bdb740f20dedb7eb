"""A request that passes, from its head to the end of its answer."""

from __future__ import annotations

from dataclasses import dataclass

from forebay.record.request_tap import RequestTap
from forebay.wire import Head


@dataclass(slots=True, eq=False)
class ProxiedExchange:
    """One request on its way.

    Attributes:
        head: of the request.
        tap: what is recorded of it; None where nothing is.
        begun: whether a byte of the answer has come.
        until_close: whether the answer's body ends with the connection.
    """

    head: Head
    tap: RequestTap | None
    begun: bool = False
    until_close: bool = False

    def end(self, outcome: str) -> None:
        """It is over: see `RequestTap.end`."""
        if self.tap is not None:
            self.tap.end(outcome)
