"""Rows of requests that pass: what is in them, and what never is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.record import BlockSize, Pseudonyms
from forebay.record.recorder import Recorder
from forebay.record.request_tap import RequestTap
from forebay.wire import Head
from forebay.workload import Row, read_trace

CHAT, COMPLETIONS = b"/v1/chat/completions", b"/v1/completions"
SIZE = BlockSize(tokens=16)
USAGE = {"usage": {"prompt_tokens": 40, "completion_tokens": 7}}
SSE = (b"content-type", b"text/event-stream; charset=utf-8")
JSON = (b"content-type", b"application/json")
EVENT = b'data: {"choices":[{"delta":{"content":"word"}}]}\n\n'


class Trace:
    """Lines that a recorder wrote."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.recorder = Recorder(self.lines.append, SIZE)

    def values(self) -> dict[str, Any]:
        (line,) = self.lines
        found: dict[str, Any] = json.loads(line)
        return found

    def tap(self, path: bytes = CHAT, *headers: tuple[bytes, bytes]) -> RequestTap:
        tap = self.recorder.tap(1.5, b"POST", path, headers)
        assert tap is not None
        return tap

    def pass_by(
        self,
        body: Any,
        answer: bytes,
        *headers: tuple[bytes, bytes],
        status: int = 200,
        kind: tuple[bytes, bytes] = JSON,
        outcome: str = "ok",
    ) -> dict[str, Any]:
        tap = self.tap(CHAT, *headers)
        tap.request_body(body if isinstance(body, bytes) else json.dumps(body).encode())
        tap.request_done()
        tap.answer_head(status, Head(headers=[kind]))
        tap.answer_body(answer)
        tap.end(outcome)
        return self.values()


def chat(content: str = "hello there") -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}]}


def test_a_row_holds_the_servers_own_counts() -> None:
    values = Trace().pass_by(chat(), json.dumps(USAGE).encode())
    assert values == {"at_s": 1.5, "prompt_tokens": 40, "output_tokens": 7}


def test_what_was_not_counted_is_estimated_and_says_so() -> None:
    values = Trace().pass_by(chat("x" * 395), EVENT * 5, kind=SSE)
    assert values["prompt_tokens"] == 100  # "user" and two line breaks are 6 bytes: 401 in all
    assert values["output_tokens"] == 5
    assert values["estimated"] == ["prompt_tokens", "output_tokens"]


def test_ids_are_counted_not_estimated() -> None:
    values = Trace().pass_by({"prompt": [1, 2, 3]}, EVENT, kind=SSE)
    assert values["prompt_tokens"] == 3
    assert values["estimated"] == ["output_tokens"]


def test_blocks_are_no_more_than_the_prompt_has_tokens() -> None:
    long, short = Trace(), Trace()
    body = chat("x" * 1000)  # by bytes 250 tokens, 15 blocks of 16
    answer = json.dumps(USAGE).encode()
    assert len(long.pass_by(body, b'{"usage":{"prompt_tokens":300}}')["blocks"]) == 15
    values = short.pass_by(body, answer)  # 40 tokens, says the server
    assert len(values["blocks"]) == 2
    assert values["block_tokens"] == 16


@pytest.mark.parametrize(
    ("status", "outcome", "expected"),
    [
        (200, "ok", None),
        (429, "ok", "shed"),
        (503, "ok", "shed"),
        (500, "ok", "failed"),
        (400, "ok", "failed"),
        (200, "cut", "cut"),
        (200, "cancelled", "cancelled"),
    ],
)
def test_the_outcome(status: int, outcome: str, expected: str | None) -> None:
    trace = Trace()
    values = trace.pass_by(chat(), EVENT * 3, status=status, kind=SSE, outcome=outcome)
    assert values.get("outcome") == expected
    assert values["output_tokens"] == (3 if status == 200 else 0)
    assert trace.recorder.totals.outcomes == {expected or "ok": 1}


def test_an_error_inside_a_stream_is_a_failure() -> None:
    values = Trace().pass_by(chat(), EVENT + b'data: {"error": {"message": "x"}}\n\n', kind=SSE)
    assert values["outcome"] == "failed"


def test_a_client_that_leaves_before_its_request_is_here_is_recorded_by_its_size() -> None:
    trace = Trace()
    tap = trace.tap(CHAT, (b"x-forebay-class", b"sk-secret"))
    tap.request_body(b'{"messages": [{"role": "user", "content": "' + b"x" * 357)
    tap.end("cancelled")
    assert trace.values() == {
        "at_s": 1.5, "prompt_tokens": 100, "output_tokens": 0,
        "estimated": ["prompt_tokens"], "outcome": "cancelled",
    }  # fmt: skip
    assert trace.recorder.totals.unreadable == 1


def test_it_ends_once() -> None:
    trace = Trace()
    tap = trace.tap()
    tap.end("cut")
    tap.end("ok")
    tap.request_done()
    assert len(trace.lines) == 1


def test_one_key_is_one_tenant_in_whichever_header_it_came() -> None:
    trace = Trace()
    headers = [
        (b"authorization", b"Bearer sk-a"),
        (b"x-api-key", b"sk-a"),
        (b"api-key", b"sk-a"),
        (b"authorization", b"Bearer sk-b"),
    ]
    for header in headers:
        trace.tap(CHAT, header).end("ok")
    tenants = [json.loads(line)["tenant"] for line in trace.lines]
    assert len(set(tenants[:3])) == 1
    assert tenants[3] != tenants[0]


def test_a_class_is_read_from_the_header_or_the_tier() -> None:
    trace = Trace()
    values = trace.pass_by(chat(), b"{}", (b"x-forebay-class", b"batch"))
    assert values["class"] == "batch"
    assert Trace().pass_by({**chat(), "service_tier": "flex"}, b"{}")["class"] == "batch"


@pytest.mark.parametrize(
    ("method", "path", "watched"),
    [
        (b"POST", b"/v1/chat/completions", True),
        (b"POST", b"/openai/deployments/x/chat/completions?api-version=1", True),
        (b"POST", b"/base/v1/completions/", True),
        (b"POST", b"/v1/responses", True),
        (b"POST", b"/v1/messages", True),
        (b"GET", b"/v1/chat/completions", False),
        (b"POST", b"/v1/embeddings", False),
        (b"POST", b"/v1/threads/t/messages", False),
        (b"POST", b"/v1/responses/r/cancel", False),
        (b"GET", b"/v1/models", False),
    ],
)
def test_requests_for_tokens_are_watched_and_no_others(
    method: bytes, path: bytes, watched: bool
) -> None:
    assert (Trace().recorder.tap(0.0, method, path, []) is not None) == watched


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"messages": 5}',
        b"\xff\xfe",
        b"[" * 5000,
        b'{"prompt": [-1]}',
        b'{"prompt": [99999999999999999999]}',
    ],
)
def test_a_body_that_makes_no_sense_is_the_servers_affair(body: bytes) -> None:
    trace = Trace()
    values = trace.pass_by(body, b"{}", status=400)
    assert values["outcome"] == "failed"
    assert trace.recorder.totals.unreadable == 1


def test_a_huge_body_is_let_go_and_judged_by_its_size() -> None:
    trace = Trace()
    tap = trace.tap()
    for _ in range(20):
        tap.request_body(b"x" * (1 << 20))
    assert tap._body is None
    tap.end("ok")
    assert trace.values()["prompt_tokens"] == 20 * (1 << 20) // 4


def test_a_full_disk_stops_the_recording_and_not_the_traffic() -> None:
    def full(line: str) -> None:
        raise OSError(28, "No space left on device")

    recorder = Recorder(full)
    for _ in range(2):
        tap = recorder.tap(0.0, b"POST", CHAT, [])
        assert tap is not None
        tap.end("ok")
    assert recorder.fault == "No space left on device"
    assert recorder.totals.outcomes.total() == 2


def test_it_knows_how_many_bytes_a_token_has() -> None:
    trace = Trace()
    trace.pass_by(chat("x" * 194), json.dumps(USAGE).encode())  # 200 bytes, 40 tokens
    assert trace.recorder.totals.bytes_per_token == 5.0


def test_what_is_written_is_read_as_a_trace() -> None:
    trace = Trace()
    trace.pass_by(chat("x" * 1000), json.dumps(USAGE).encode(), (b"authorization", b"Bearer k"))
    (row,) = read_trace("forebay", trace.lines)
    assert (row.prompt_tokens, row.output_tokens, len(row.blocks)) == (40, 7, 2)
    assert row.tenant.startswith("t-")
    assert isinstance(row, Row)


# "Zq" is in no name and no number of a row, so that a secret found is a secret leaked.
secrets = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FFF)).map("Zq{}".format)
ascii_secrets = st.text(st.characters(min_codepoint=33, max_codepoint=126)).map("Zq{}".format)


@settings(deadline=None, max_examples=150)
@given(secrets, secrets, ascii_secrets, ascii_secrets, st.integers(1, 4), st.booleans())
def test_no_text_and_no_key_is_ever_written(
    asked: str, answered: str, key: str, class_header: str, block: int, broken: bool
) -> None:
    lines: list[str] = []
    recorder = Recorder(lines.append, BlockSize(tokens=block))
    body = {
        "model": asked,
        "messages": [{"role": asked, "content": asked}, {"role": "user", "content": [asked]}],
        "tools": [{"name": asked}],
        "user": asked,
        "service_tier": asked,
        asked: asked,
    }
    headers = [
        (b"authorization", b"Bearer " + key.encode()),
        (b"x-forebay-class", class_header.encode()),
        (b"x-" + key.encode(), key.encode()),
    ]
    tap = recorder.tap(0.0, b"POST", CHAT + b"?key=" + key.encode(), headers)
    if tap is None:  # a '?' or '#' in the key is part of the query
        return
    data = json.dumps(body).encode()
    tap.request_body(data[: len(data) // 2] if broken else data)
    tap.request_done()
    tap.answer_head(200, Head(headers=[SSE, (b"x-secret", key.encode())]))
    event = json.dumps({"id": answered, "choices": [{"delta": {"content": answered}}]})
    tap.answer_body(f"data: {event}\n\n".encode())
    tap.end("ok")
    (line,) = lines
    assert "Zq" not in line
    assert "Zq" not in repr((recorder.totals, recorder.fault, tap, vars(recorder)))
    known = {"at_s", "prompt_tokens", "output_tokens", "blocks", "block_tokens", "class", "tenant",
             "estimated", "outcome"}  # fmt: skip
    values = json.loads(line)
    assert values.keys() <= known
    assert values.get("class", "") in ("", "interactive", "batch")
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in values.get("blocks", ()))


@settings(deadline=None)
@given(st.text(min_size=20), st.text(min_size=20))
def test_two_recordings_of_one_request_have_no_name_in_common(text: str, key: str) -> None:
    rows = []
    for _ in range(2):
        trace = Trace()
        trace.recorder = Recorder(trace.lines.append, BlockSize(tokens=1), Pseudonyms())
        header = (b"authorization", b"Bearer " + key.encode("utf-8", "replace").strip() + b"x")
        rows.append(trace.pass_by(chat(text), b"{}", header))
    assert set(rows[0]["blocks"]).isdisjoint(rows[1]["blocks"])
    assert rows[0]["tenant"] != rows[1]["tenant"]
