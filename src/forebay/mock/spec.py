"""What a mock is to be: its times, its capacity, its faults, its place."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from forebay.mock.faults import FaultRule, Stall, check_shares, parse_rule
from forebay.mock.laws import Fixed, Law, parse_law
from forebay.spec.files import did_you_mean

DEFAULT_TTFT = Fixed(0.050)
DEFAULT_ITL = Fixed(0.010)
_LAST_CORE = 8191  # of the largest Linux


@dataclass(frozen=True, kw_only=True)
class MockSpec:
    """A mock server. `parse` reads the same from JSON, with laws and faults as words.

    Attributes:
        ttft: law of the time from a request's start to its first token.
        itl: law of the time from each token to the next.
        slots: requests that run at once, the others wait in order of arrival; no bound when None.
        max_queued: requests that may wait; one more is refused with 429. No bound when None.
        retry_after_s: seconds after which such a refusal asks to come again.
        faults: what goes wrong, see `faults`.
        seed: of every draw.
        model: name of the model in answers; any name is accepted in requests.
        max_model_len: tokens, prompt and output, that one request may ask for.
        host: address to listen on.
        port: TCP port; a free one when 0.
        log: file for one JSON object per request, see `log`; not written when None.
        realtime: ask for real-time scheduling (a process of its own only).
        cores: CPU cores to run on (a process of its own only); any when empty.

    Raises:
        ValueError: on values that cannot be.
    """

    ttft: Law = DEFAULT_TTFT
    itl: Law = DEFAULT_ITL
    slots: int | None = None
    max_queued: int | None = None
    retry_after_s: float = 1.0
    faults: tuple[FaultRule | Stall, ...] = ()
    seed: int = 0
    model: str = "mock"
    max_model_len: int = 131_072
    host: str = "127.0.0.1"
    port: int = 0
    log: str | None = None
    realtime: bool = False
    cores: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _within("slots", self.slots, 1)
        _within("max_queued", self.max_queued, 0)
        _within("seed", self.seed, 0, 2**63 - 1)
        _within("max_model_len", self.max_model_len, 1)
        _within("port", self.port, 0, 65_535)
        for core in self.cores:
            _within("cores", core, 0, _LAST_CORE)
        if self.max_queued is not None and self.slots is None:
            raise ValueError("max_queued needs slots: without them nothing ever waits")
        if not 0 <= self.retry_after_s < math.inf:
            raise ValueError(f"retry_after_s must be 0 or more, not {self.retry_after_s}")
        check_shares(self.rules)

    @classmethod
    def parse(cls, text: str | bytes) -> MockSpec:
        """Reads the JSON form: ``{"ttft": "lognormal:200ms/800ms", "faults": ["cut=3 5%"]}``.

        Raises:
            ValueError: it is not JSON, names an unknown key, or holds an impossible value.
        """
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("a mock is described by a JSON object")
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise ValueError(f"unknown key {name!r}; {did_you_mean(name, known)}")
        try:
            return cls(**{name: _read(name, value) for name, value in values.items()})
        except (TypeError, AttributeError) as error:
            raise ValueError(f"a value has the wrong type: {error}") from error

    @cached_property
    def rules(self) -> tuple[FaultRule, ...]:
        """The faults that befall requests."""
        return tuple(fault for fault in self.faults if isinstance(fault, FaultRule))

    @cached_property
    def stalls(self) -> tuple[Stall, ...]:
        """The stalls that come by the clock."""
        return tuple(fault for fault in self.faults if isinstance(fault, Stall))

    def capacity_per_s(self, output_tokens: int) -> float | None:
        """Requests/s of `output_tokens` that keep every slot busy, without faults.

        None where nothing bounds it.
        """
        service_s = self.ttft.mean_s + (output_tokens - 1) * self.itl.mean_s
        return None if self.slots is None or service_s == 0 else self.slots / service_s


def _read(name: str, value: Any) -> Any:
    """One value of the JSON form."""
    try:
        if name in ("ttft", "itl"):
            return parse_law(value)
        if name == "faults":
            return tuple(parse_rule(words) for words in value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return tuple(value) if name == "cores" else value


def _within(name: str, value: int | None, least: int, most: int | None = None) -> None:
    if value is None:
        return
    if type(value) is not int or value < least or (most is not None and value > most):
        upper = "or more" if most is None else f"to {most}"
        raise ValueError(f"{name} must be a whole number, {least} {upper}, not {value!r}")
