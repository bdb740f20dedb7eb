"""Whether and when a client sends a request again, as the OpenAI Python client does.

Its rules (openai-python 3.54, ``_base_client.py``): up to 2 more attempts on a refused or lost
connection, a timeout, and the statuses 408, 409, 429 and 5xx; ``x-should-retry: false`` forbids
it, and so does a Retry-After beyond two minutes; a shorter one is obeyed. Else it waits 0.5 s,
doubled each time up to 8 s, less up to a quarter at random.
"""

from __future__ import annotations

from dataclasses import dataclass

_LONGEST_ASKED_S = 120.0
_FIRST_S, _LONGEST_S, _JITTER = 0.5, 8.0, 0.25
_STATUSES = frozenset({408, 409, 429})
_LOST = frozenset({"refused_connection", "dropped", "timeout"})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How many attempts a request gets in all; 1 is none after the first."""

    attempts: int = 1

    def wait_s(
        self,
        *,
        attempts: int,
        outcome: str,
        status: int,
        retry_after_s: float | None,
        forbidden: bool,
        jitter: float,
    ) -> float | None:
        """Seconds until the next attempt; None when this one was the last.

        Args:
            attempts: made so far.
            outcome: of the last one.
            status: HTTP status of the last one, 0 without an answer.
            retry_after_s: wait that its answer asked for.
            forbidden: its answer said ``x-should-retry: false``.
            jitter: random, 0 to 1.
        """
        again = outcome in _LOST or status in _STATUSES or status >= 500
        if outcome == "ok" or not again or forbidden or attempts >= self.attempts:
            return None
        if retry_after_s is not None and retry_after_s > _LONGEST_ASKED_S:
            return None
        if retry_after_s:
            return retry_after_s
        backoff = min(_FIRST_S * 2.0 ** (attempts - 1), _LONGEST_S)
        return backoff * (1 - _JITTER * jitter)
