"""What is read of a request's headers."""

from __future__ import annotations

from forebay.serving.http import Scope, header


def test_of_headers_of_one_name_the_first_counts() -> None:
    scope: Scope = {"headers": [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]}
    assert [header(scope, name) for name in (b"a", b"b", b"c")] == [b"1", b"2", None]


def test_headers_that_are_put_on_a_request_later_are_seen() -> None:
    scope: Scope = {"headers": [(b"a", b"1")]}
    assert header(scope, b"b") is None
    scope["headers"] = [*scope["headers"], (b"b", b"2")]
    assert header(scope, b"b") == b"2"
