"""What can go wrong on purpose, for which requests, and when.

| fault | what the client sees |
|---|---|
| `stall=2s` | the whole server sends nothing for that long, then everything due meanwhile |
| `drop` | the connection closes before any byte of an answer |
| `429=5s` | refused in OpenAI's error shape, with Retry-After |
| `500` | an error in OpenAI's shape |
| `503` | a bare one, as a proxy without a server gives it |
| `malformed` | bytes that are not HTTP |
| `hang` | nothing, ever |
| `cut=3` | the connection closes when the token after the third was due |
| `error-in-stream=3` | in place of the token after the third, an error object; then `[DONE]` |
| `chunk=4` | four tokens in each event, sent when the last of them is due; usage stays exact |
| `no-done` | the stream ends in good order, but without `[DONE]` |
| `split` | multi-byte text, and writes whose boundaries fall anywhere inside lines and characters |

A plain (not streamed) answer has no events: `cut` closes half-way through it, `error-in-stream` is
a 500 in its place, and `chunk`, `no-done` and `split` change nothing. The faults from `drop` to
`hang` happen at once, on arrival, and take no slot.

A rule gives a fault to a share of the requests, always or in a window; `stall from 3s for 2s`
stalls the server at that time whatever arrives. Windows count from the first request for tokens,
so that an experiment does not depend on how long before it the server was started.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from forebay.mock.laws import seconds
from forebay.spec.files import did_you_mean, format_seconds

# What each fault's value is, and which it has when none is written.
_DURATIONS = {"stall": 1.0, "429": 1.0}
_COUNTS = {"cut": 1.0, "error-in-stream": 1.0, "chunk": 4.0}
_PLAIN = ("drop", "500", "503", "malformed", "hang", "no-done", "split")
KINDS = (*_DURATIONS, *_COUNTS, *_PLAIN)
NONE = "none"  # as X-Mock: this request is spared from every rule

_RULE = re.compile(r"(\S+)(?:\s+([\d.]+)%)?(?:\s+from\s+(\S+))?(?:\s+for\s+(\S+))?")
_RULE_HINT = (
    "write FAULT [SHARE%] [from TIME] [for TIME], as in 'cut=3 5%' or 'stall from 3s for 2s'"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `value` is in seconds (stall, 429) or tokens (cut, error-in-stream, chunk)."""

    kind: str
    value: float = 0.0

    def __str__(self) -> str:
        if self.kind in _DURATIONS:
            return f"{self.kind}={format_seconds(self.value)}"
        return f"{self.kind}={self.value:.0f}" if self.kind in _COUNTS else self.kind

    @classmethod
    def parse(cls, words: str) -> Fault:
        """Reads ``drop`` or ``cut=3``.

        Raises:
            ValueError: no such fault, or no such value of it.
        """
        kind, equals, value = words.strip().partition("=")
        if kind not in KINDS:
            raise ValueError(f"unknown fault {kind!r}; {did_you_mean(kind, KINDS)}")
        if kind in _PLAIN:
            if equals:
                raise ValueError(f"{kind} takes no value; write {kind}")
            return cls(kind)
        if kind in _DURATIONS:
            return cls(kind, seconds(value) if equals else _DURATIONS[kind])
        return cls(kind, _count(kind, value) if equals else _COUNTS[kind])


def _count(kind: str, value: str) -> float:
    least = 1 if kind == "chunk" else 0
    if not value.isascii() or not value.isdigit() or int(value) < least:
        raise ValueError(f"{kind} takes a number of tokens, {least} or more; write {kind}=3")
    return float(value)


@dataclass(frozen=True, slots=True)
class FaultRule:
    """A fault for a share of the requests that arrive in a window.

    Attributes:
        fault: what happens to them.
        share: above 0, at most 1.
        from_s, for_s: the window, in seconds from the first request for tokens.
    """

    fault: Fault
    share: float = 1.0
    from_s: float = 0.0
    for_s: float = math.inf

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"the share of {self.fault} is {self.share:.4%}; above 0% to 100%")
        _check_window(self.from_s, self.for_s)

    def __str__(self) -> str:
        words = [str(self.fault)]
        if self.share < 1:
            words.append(f"{self.share * 100:.10g}%")
        if self.from_s:
            words.append(f"from {format_seconds(self.from_s)}")
        if self.for_s < math.inf:
            words.append(f"for {format_seconds(self.for_s)}")
        return " ".join(words)

    def active(self, since_s: float) -> bool:
        """Whether `since_s` seconds after the first request are in the window."""
        return self.from_s <= since_s < self.from_s + self.for_s


@dataclass(frozen=True, slots=True)
class Stall:
    """The whole server sends nothing in a window, seconds from the first request for tokens."""

    from_s: float
    for_s: float

    def __post_init__(self) -> None:
        _check_window(self.from_s, self.for_s)
        if self.for_s == math.inf:
            raise ValueError("a stall ends; write stall from 3s for 2s")

    def __str__(self) -> str:
        return f"stall from {format_seconds(self.from_s)} for {format_seconds(self.for_s)}"


def parse_rule(words: str) -> FaultRule | Stall:
    """Reads ``cut=3 5%``, ``503 20% from 10s for 5s`` or ``stall from 3s for 2s``.

    Raises:
        ValueError: it is no such rule.
    """
    match = _RULE.fullmatch(words.strip())
    if match is None:
        raise ValueError(f"{words!r} is no rule; {_RULE_HINT}")
    fault, share, start, length = match.groups()
    from_s = seconds(start) if start else 0.0
    for_s = seconds(length) if length else math.inf
    if fault == "stall" and share is None and (start or length):
        return Stall(from_s, for_s)
    return FaultRule(Fault.parse(fault), _share(share), from_s, for_s)


def check_shares(rules: Iterable[FaultRule]) -> None:
    """Refuses rules that together ask for more than all requests of some moment.

    Raises:
        ValueError: naming the moment.
    """
    rules = list(rules)
    for at in sorted({rule.from_s for rule in rules}):
        total = sum(rule.share for rule in rules if rule.active(at))
        if total > 1 + 1e-9:
            raise ValueError(
                f"faults: the shares add up to {total:.0%} from {format_seconds(at)} on; "
                "give them 100% or less together"
            )


def chosen(rules: Sequence[FaultRule], draw: float, since_s: float) -> Fault | None:
    """The fault of a request that arrives `since_s` after the first; `draw` is uniform in [0, 1).

    Each active rule takes its own part of [0, 1), so each gets exactly its share.
    """
    edge = 0.0
    for rule in rules:
        if rule.active(since_s):
            edge += rule.share
            if draw < edge:
                return rule.fault
    return None


def _share(words: str | None) -> float:
    if words is None:
        return 1.0
    try:
        return float(words) / 100
    except ValueError:
        raise ValueError(f"{words}% is no share; write one such as 5%") from None


def _check_window(from_s: float, for_s: float) -> None:
    if not (0 <= from_s < math.inf and for_s > 0):
        raise ValueError(f"a window begins at 0 or later and lasts, not from {from_s} for {for_s}")
