from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mock_endpoint import DONE, ERROR, USAGE, event

from forebay.wire import TokenStream


def read(*pieces: bytes) -> TokenStream:
    """A stream fed piece by piece, at seconds 1, 2, 3 ..."""
    tokens = TokenStream(keep_times=True)
    for now, piece in enumerate(pieces, start=1):
        tokens.feed(piece, float(now))
    tokens.finish(len(pieces) + 1.0)
    return tokens


def test_counts_and_stamps_content_events() -> None:
    tokens = read(event(""), event("a"), event("b"), event("c"), USAGE, DONE)
    assert (tokens.events, tokens.first_s, tokens.last_s, tokens.done) == (3, 2.0, 4.0, True)
    assert list(tokens.times or ()) == [2.0, 3.0, 4.0]
    assert tokens.usage() == {"prompt": 7, "completion": 5}


def test_several_events_of_one_read_share_its_time() -> None:
    tokens = read(event("a") + event("b"), event("c") + DONE)
    assert list(tokens.times or ()) == [1.0, 1.0, 2.0]


def chat(**delta: object) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (chat(role="assistant", content=""), 0),
        (chat(content="Hi"), 1),
        (chat(content=None), 0),
        (chat(reasoning_content="hm"), 1),
        (chat(content="", note='"text":"a"'), 0),  # the quotes are escaped inside a string
        (event('"text":"'), 1),
        (event("\\"), 1),
        (event("é\u2028☂"), 1),
        (b": keep-alive\n\n", 0),
        (b"event: token\nid: 1\ndata: x\n\n", 0),
        (event("a").replace(b"\n", b"\r\n"), 1),
    ],
)
def test_what_counts_as_content(data: bytes, events: int) -> None:
    assert read(data).events == events


def test_usage_within_the_last_content_event_is_read() -> None:
    tokens = read(event("a"), event("b", usage={"completion_tokens": 9}), DONE)
    assert tokens.usage() == {"completion": 9}


def test_an_error_object_is_kept() -> None:
    tokens = read(event("a"), ERROR, DONE)
    assert tokens.events == 1
    assert json.loads(tokens.error or b"")["error"]["type"] == "Overloaded"


def test_a_null_error_is_none() -> None:
    assert read(event("a", error=None), event("", error=None)).error is None


def test_the_last_line_needs_no_line_break() -> None:
    assert read(event("a"), b"data: [DONE]").done


def test_an_endless_line_is_given_up() -> None:
    tokens = read(b"data: " + b"x" * (1 << 20), b"y")
    assert tokens.error is not None


@given(
    texts=st.lists(st.text(max_size=3), max_size=6),
    cuts=st.lists(st.integers(0, 2000), max_size=30),
)
def test_where_the_bytes_are_split_changes_no_count(texts: list[str], cuts: list[int]) -> None:
    data = b"".join(event(text) for text in texts) + USAGE + DONE
    edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    pieces = [data[start:end] for start, end in pairwise(edges)]
    whole, split = read(data), read(*pieces)
    assert whole.events == sum(bool(text) for text in texts)
    assert (split.events, split.done, split.usage()) == (whole.events, True, whole.usage())


pieces = st.sampled_from(
    [
        event("a"), event(""), event('"text":"x"'), event("long " * 60), chat(content="Hi"),
        chat(content="a", reasoning_content="b"), chat(content=None), USAGE, ERROR, DONE,
        b": content:\"text\":\"x\"\n\n", b"id: 1\n", event("a").replace(b"\n", b"\r\n"),
    ]
)  # fmt: skip


@given(st.lists(pieces, max_size=40))
def test_a_chunk_of_many_events_counts_as_they_would_one_by_one(events: list[bytes]) -> None:
    at_once, each = read(b"".join(events)), read(*events)
    for name in ("events", "done", "error"):
        assert getattr(at_once, name) == getattr(each, name)
    assert len(at_once.times or ()) == len(each.times or ())
    assert at_once.usage() == each.usage()
