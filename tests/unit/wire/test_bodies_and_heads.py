"""Heads, errors and prompts as they go over the wire."""

from __future__ import annotations

import httptools

from forebay.wire import HeadReader, error_body, error_in, prompt_parts, prompts_in, response


def test_a_head_is_gathered_and_trailers_are_not() -> None:
    reader = HeadReader()
    parser = httptools.HttpResponseParser(reader)
    parser.feed_data(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
    parser.feed_data(b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Late: 1\r\n\r\n")
    assert reader.head.is_event_stream
    assert reader.head.chunked
    assert reader.head.value(b"x-late") == b""


def test_what_is_written_is_read() -> None:
    body = error_body(429, "Later.", "quota")
    error = error_in(body)
    assert error is not None
    assert (error["type"], error["code"]) == ("rate_limit_error", "quota")
    assert response(429, body).startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert error_in(b"[]") is error_in(b"{") is None


def test_parts_come_in_the_order_in_which_templates_render_them() -> None:
    body = {"messages": ["m", "n"], "system": "s", "tools": ["t"], "model": "x"}
    assert list(prompt_parts(body)) == [
        ("tools", ["t"]), ("system", "s"), ("messages", "m"), ("messages", "n"),
    ]  # fmt: skip
    assert list(prompt_parts({"input": "i"})) == [("input", "i")]


def test_prompts_of_a_completion() -> None:
    for prompt, several in (("a", ["a"]), ([1, 2], [[1, 2]]), (["a", "b"], ["a", "b"]), ([], [[]])):
        assert prompts_in(prompt) == several
