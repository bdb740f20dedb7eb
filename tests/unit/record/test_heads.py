"""Heads of requests on their way upstream."""

from __future__ import annotations

import json
from http import HTTPStatus

import pytest

from forebay.record.heads import for_upstream, own_answer, target_of
from forebay.wire import Head

TARGET = target_of("http://upstream:8000/base/")


def lines(head: Head, *, watched: bool = True) -> list[str]:
    text = for_upstream(head, TARGET, watched=watched).decode()
    assert text.endswith("\r\n\r\n")
    return text.removesuffix("\r\n\r\n").split("\r\n")


def head(*headers: tuple[bytes, bytes], **more: object) -> Head:
    made = Head(b"POST", b"/v1/completions?a=1", headers=list(headers))
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_the_host_is_the_upstreams_and_the_path_behind_its_base() -> None:
    first, *rest = lines(head((b"host", b"proxy:8200"), (b"x-a", b"1")))
    assert first == "POST /base/v1/completions?a=1 HTTP/1.1"
    assert rest == ["host: upstream:8000", "x-a: 1"]


def test_what_concerns_this_connection_alone_stays_here() -> None:
    said = lines(
        head(
            (b"connection", b"keep-alive, X-Hop"),
            (b"connection", b"upgrade, content-length"),
            (b"upgrade", b"h2c"),
            (b"keep-alive", b"timeout=5"),
            (b"x-hop", b"1"),
            (b"te", b"trailers"),
            (b"proxy-authorization", b"Basic x"),
            (b"authorization", b"Bearer k"),
            (b"content-length", b"4"),
            (b"expect", b"100-continue"),
        )
    )
    assert said[2:] == ["authorization: Bearer k", "content-length: 4", "expect: 100-continue"]


@pytest.mark.parametrize(
    ("version", "keep_alive", "expected"),
    [
        ("1.1", True, []),
        ("1.1", False, ["connection: close"]),
        ("1.0", True, ["connection: keep-alive"]),
        ("1.0", False, ["connection: close"]),
    ],
)
def test_the_connection_upstream_lives_as_long_as_the_clients(
    version: str, keep_alive: bool, expected: list[str]
) -> None:
    said = lines(head(version=version, keep_alive=keep_alive))
    assert said[0].endswith(f"HTTP/{version}")
    assert said[2:] == expected


@pytest.mark.parametrize(
    ("offered", "asked"),
    [
        (b"gzip, deflate, br, zstd", "gzip, deflate"),
        (b"br;q=1.0, gzip;q=0.8, *;q=0.1", "gzip;q=0.8"),
        (b"br", "identity"),
        (b"identity", "identity"),
    ],
)
def test_a_watched_answer_is_asked_for_in_a_packing_that_can_be_read(
    offered: bytes, asked: str
) -> None:
    accepts = head((b"accept-encoding", offered))
    assert lines(accepts)[2] == f"accept-encoding: {asked}"
    assert lines(accepts, watched=False)[2] == f"accept-encoding: {offered.decode()}"


def test_a_target_that_is_no_path_is_left_alone() -> None:
    assert lines(head(method=b"OPTIONS", target=b"*"))[0] == "OPTIONS * HTTP/1.1"


@pytest.mark.parametrize(
    ("url", "again", "authority"),
    [
        ("http://localhost:8000", "http://localhost:8000", "localhost:8000"),
        ("https://api.example.com/v2/", "https://api.example.com/v2", "api.example.com"),
        ("http://[::1]:80", "http://[::1]", "[::1]"),
    ],
)
def test_urls(url: str, again: str, authority: str) -> None:
    target = target_of(url)
    assert (target.url, target.authority) == (again, authority)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://a",
        "http://",
        "http://user:sekret@h",
        "http://h/?q=1",
        "http://ü",
    ],
)
def test_what_is_no_target_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as raised:
        target_of(url)
    assert "sekret" not in str(raised.value)


def test_its_own_answers_have_openais_shape() -> None:
    said, _, body = own_answer(HTTPStatus.BAD_GATEWAY, "No.", "unreachable").partition(b"\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert f"content-length: {len(body)}".encode() in said
    assert json.loads(body)["error"] == {
        "message": "No.",
        "type": "server_error",
        "param": None,
        "code": "unreachable",
    }
