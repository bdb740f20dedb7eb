"""Request records for the tests here: one by hand, any by hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from forebay.measure import OUTCOMES, RequestRecord

_STATUS = {"ok": 200, "shed": 429, "failed": 500, "stream_error": 200, "cut": 200, "malformed": 200}
_PERHAPS_TOKENS = ("stream_error", "cut", "timeout", "cancelled", "stopped")


def sample(**changes: Any) -> RequestRecord:
    """A request sent 1 ms late at 10 s: first token at 10.2 s, 11 tokens until 11.2 s."""
    values: dict[str, Any] = {
        "index": 0,
        "intended_s": 10.0,
        "sent_s": 10.001,
        "first_byte_s": 10.1,
        "first_token_s": 10.2,
        "last_token_s": 11.2,
        "ended_s": 11.25,
        "status": 200,
        "outcome": "ok",
        "tokens_out": 11,
    }
    return RequestRecord(**(values | changes))


@st.composite
def any_record(draw: st.DrawFn) -> RequestRecord:
    """A record whose fields agree with its outcome."""
    outcome = draw(st.sampled_from(OUTCOMES))
    intended = draw(st.floats(0, 50))
    first = intended + draw(st.floats(0.001, 5))
    has_tokens = outcome == "ok" or (outcome in _PERHAPS_TOKENS and draw(st.booleans()))
    tokens = draw(st.integers(1, 100)) if has_tokens else 0
    last = first if tokens < 2 else first + draw(st.floats(0, 5))
    return RequestRecord(
        index=draw(st.integers(0, 1000)),
        intended_s=intended,
        sent_s=intended + draw(st.floats(0, 0.1)),
        ended_s=last,
        status=200 if has_tokens else _STATUS.get(outcome, 0),
        outcome=outcome,
        first_token_s=first if has_tokens else None,
        last_token_s=last if has_tokens else None,
        tokens_out=tokens,
        prompt_tokens=draw(st.integers(1, 100)),
        attempts=draw(st.integers(1, 3)),
        cached_tokens=draw(st.none() | st.integers(0, 50)),
        kind=draw(st.sampled_from(["", "chat", "batch"])),
        tenant=draw(st.sampled_from(["", "x"])),
        session=draw(st.integers(0, 9)),
        turn=draw(st.integers(0, 3)),
    )
