"""One request of a workload, and the session that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from forebay.workload.prompts import Segment, total_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who asks what. When it is asked is its session's affair.

    Attributes:
        segments: what this request adds to its session's history; a first turn, its whole prompt.
        output_tokens: length of the answer.
        history_tokens: length of what stands before it: earlier turns and their answers.
        think_s: seconds between the end of the turn before and this one; 0 in a first turn.
        cancel_after_s: the client leaves so long after it asked, if still waiting; never, if None.
    """

    segments: tuple[Segment, ...]
    output_tokens: int
    history_tokens: int = 0
    think_s: float = 0.0
    cancel_after_s: float | None = None

    @property
    def prompt_tokens(self) -> int:
        """Length of the whole prompt, history included."""
        return self.history_tokens + total_tokens(self.segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A conversation, or a single request: turns that are asked one after the other.

    Attributes:
        number: its place in the schedule, from 0.
        turns: at least one.
        at_s: when the first turn is asked, seconds from the start; None in a closed loop, where a
            client asks when it is free.
        kind: which of the workload's kinds.
        class_name: traffic class; empty for the server's default.
        tenant: whose it is; empty for nobody's.
    """

    number: int
    turns: tuple[Request, ...]
    at_s: float | None = None
    kind: str = ""
    class_name: str = ""
    tenant: str = ""
