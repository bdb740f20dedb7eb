"""Counts found in answers that pass, however they are cut and packed."""

from __future__ import annotations

import gzip
import json
import zlib
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.record.answers import AnswerTap

USAGE = {
    "prompt_tokens": 1234,
    "total_tokens": 1290,
    "completion_tokens": 56,
    "prompt_tokens_details": {"cached_tokens": 7},
}
NASTY = 'say "prompt_tokens": 9, \\"completion_tokens\\": 8'
PLAIN = json.dumps({"choices": [{"message": {"content": NASTY}}], "usage": USAGE}).encode()


def event(values: object) -> bytes:
    return b"data: " + json.dumps(values).encode() + b"\n\n"


def chat_event(text: str, **more: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}}], **more})


STREAM = b"".join(
    [
        event({"choices": [{"delta": {"role": "assistant", "content": ""}}]}),
        *(chat_event(f"word {NASTY}") for _ in range(5)),
        event({"choices": [], "usage": USAGE}),
        b"data: [DONE]\n\n",
    ]
)


def tapped(body: bytes, cuts: list[int], *, stream: bool, encoding: bytes = b"") -> AnswerTap:
    tap = AnswerTap(stream=stream, encoding=encoding)
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    for start, end in pairwise(places):
        if start < end:
            tap.feed(body[start:end])
    tap.finish()
    return tap


cuts = st.lists(st.integers(0, 10_000), max_size=12)
packings = st.sampled_from([b"", b"gzip", b"deflate"])


def packed(body: bytes, encoding: bytes) -> bytes:
    return {b"": body, b"gzip": gzip.compress(body), b"deflate": zlib.compress(body)}[encoding]


@settings(deadline=None)
@given(cuts, packings)
def test_a_plain_answers_counts_are_found(cuts: list[int], encoding: bytes) -> None:
    tap = tapped(packed(PLAIN, encoding), cuts, stream=False, encoding=encoding)
    assert (tap.prompt_tokens, tap.output_tokens) == (1234, 56)
    assert tap.size == len(PLAIN)


@settings(deadline=None)
@given(cuts, packings)
def test_a_streams_counts_are_found_and_its_events_counted(
    cuts: list[int], encoding: bytes
) -> None:
    tap = tapped(packed(STREAM, encoding), cuts, stream=True, encoding=encoding)
    assert (tap.prompt_tokens, tap.output_tokens, tap.events) == (1234, 56, 5)
    assert not tap.failed


@settings(deadline=None)
@given(cuts)
def test_a_stream_without_counts_is_counted_by_events(cuts: list[int]) -> None:
    body = b"".join(chat_event("x") for _ in range(7)) + b"data: [DONE]\n\n"
    tap = tapped(body, cuts, stream=True)
    assert (tap.prompt_tokens, tap.output_tokens, tap.events) == (None, None, 7)


def test_other_apis_names() -> None:
    messages = (
        b"event: message_start\n"
        + event(
            {
                "type": "message_start",
                "message": {"usage": {"input_tokens": 25, "output_tokens": 1}},
            }
        )
        + event({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hi"}})
        + event({"type": "message_delta", "usage": {"output_tokens": 15}})
    )
    tap = tapped(messages, [], stream=True)
    assert (tap.prompt_tokens, tap.output_tokens, tap.events) == (25, 15, 1)
    responses = event({"type": "response.output_text.delta", "delta": "Hel"}) + event(
        {
            "type": "response.completed",
            "response": {"usage": {"input_tokens": 3, "output_tokens": 9}},
        }
    )
    tap = tapped(responses, [], stream=True)
    assert (tap.prompt_tokens, tap.output_tokens, tap.events) == (3, 9, 1)


def test_limits_that_were_asked_for_are_no_counts() -> None:
    body = json.dumps({"max_output_tokens": 500, "max_completion_tokens": 77, "choices": []})
    tap = tapped(body.encode(), [], stream=False)
    assert (tap.prompt_tokens, tap.output_tokens) == (None, None)


@pytest.mark.parametrize(
    "error", [{"error": {"message": "x"}}, {"object": "error", "message": "x"}, {"type": "error"}]
)
def test_an_error_inside_a_stream_is_seen(error: dict[str, Any]) -> None:
    assert tapped(chat_event("x") + event(error), [], stream=True).failed


def test_a_text_about_errors_is_none() -> None:
    assert not tapped(chat_event('data: {"error": "x"}'), [], stream=True).failed


def test_a_last_line_without_its_break_counts() -> None:
    tap = tapped(chat_event("x").rstrip(b"\n"), [], stream=True)
    assert tap.events == 1


@pytest.mark.parametrize("stream", [True, False])
def test_damaged_packing_is_said_and_does_no_harm(stream: bool) -> None:
    body = bytearray(gzip.compress(STREAM))
    body[20:40] = b"\0" * 20
    tap = tapped(bytes(body), [15, 25, 60], stream=stream, encoding=b"gzip")
    assert tap.unreadable


def test_a_bomb_is_unpacked_in_steps() -> None:
    tap = AnswerTap(stream=False, encoding=b"gzip")
    tap.feed(gzip.compress(b"0" * (50 << 20)))
    assert tap.size == 50 << 20
    assert len(tap._rest) <= 64


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    tap = AnswerTap(stream=True)
    for _ in range(40):
        tap.feed(b"x" * (1 << 17))
    assert len(tap._rest) <= 1 << 20
