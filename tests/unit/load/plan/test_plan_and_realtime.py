from __future__ import annotations

import os

import pytest

from forebay.load.plan import Message, Target, WireFormat
from forebay.load.timing import realtime_scheduling
from forebay.load.timing.realtime import PRIORITY
from forebay.wire import base_url


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "base"),
    [
        ("http://h:8000", "h", 8000, False, ""),
        ("http://h", "h", 80, False, ""),
        ("https://h/", "h", 443, True, ""),
        ("http://[::1]:9/api/", "::1", 9, False, "/api"),
    ],
)
def test_targets_from_urls(url: str, host: str, port: int, tls: bool, base: str) -> None:
    target = Target.from_url(url)
    assert (target.host, target.port, target.tls, target.base_path) == (host, port, tls, base)


@pytest.mark.parametrize("url", ["", "h:80", "ftp://h", "http://", "http://h:port"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
        Target.from_url(url)


def test_the_wire_holds_path_headers_and_body() -> None:
    wire = WireFormat(Target("h", 8, base_path="/api"))
    request = Message(b'{"a":1}', headers={"X-Class": "c"}, request_id="r1")
    head, body = wire.encode(request).split(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /api/v1/completions HTTP/1.1"
    assert b"X-Request-Id: r1" in lines
    assert b"X-Class: c" in lines
    assert lines[-1] == b"Content-Length: 7"
    assert body == b'{"a":1}'


def test_each_path_and_header_set_has_its_own_head() -> None:
    wire = WireFormat(Target("h", 8))
    first = wire.encode(Message(b"", headers={"A": "1"}))
    assert b"A: 2" in wire.encode(Message(b"", headers={"A": "2"}))
    assert wire.encode(Message(b"", headers={"A": "1"})) == first


@pytest.mark.parametrize("headers", [{"A": "1\r\nB: 2"}, {"A\n": "1"}])
def test_a_header_cannot_smuggle_another(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="line break"):
        WireFormat(Target("h", 8)).encode(Message(b"", headers=headers))


class Scheduler:
    """The system calls, recorded; ``refusal`` is what taking real-time priority raises."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refusal: OSError | None = None) -> None:
        self.policy, self.priority = os.SCHED_OTHER, 0
        self._refusal = refusal
        monkeypatch.setattr(os, "sched_getscheduler", lambda _: self.policy)
        monkeypatch.setattr(os, "sched_getparam", lambda _: os.sched_param(self.priority))
        monkeypatch.setattr(os, "sched_setscheduler", self._set)

    def _set(self, pid: int, policy: int, parameters: os.sched_param) -> None:
        assert pid == 0
        if self._refusal is not None:
            raise self._refusal
        self.policy, self.priority = policy, parameters.sched_priority


def test_realtime_is_taken_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    system = Scheduler(monkeypatch)
    with realtime_scheduling() as grant:
        assert grant.granted
        assert system.policy & os.SCHED_FIFO
        assert system.policy & os.SCHED_RESET_ON_FORK
        assert system.priority == PRIORITY
    assert (system.policy, system.priority) == (os.SCHED_OTHER, 0)


def test_a_refusal_is_reported_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    system = Scheduler(monkeypatch, PermissionError(1, "Operation not permitted"))
    with realtime_scheduling() as grant:
        assert (grant.granted, grant.reason) == (False, "Operation not permitted")
    assert system.policy == os.SCHED_OTHER


def test_an_error_inside_passes_and_still_restores(monkeypatch: pytest.MonkeyPatch) -> None:
    system = Scheduler(monkeypatch)
    with pytest.raises(KeyError), realtime_scheduling():
        raise KeyError
    assert system.policy == os.SCHED_OTHER


def test_a_system_without_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setscheduler")
    with realtime_scheduling() as grant:
        assert not grant.granted
        assert "SCHED_FIFO" in grant.reason


def head_of(message: Message, target: Target | None = None) -> list[bytes]:
    return WireFormat(target or Target("h", 8)).encode(message).split(b"\r\n")


def test_an_ipv6_host_has_its_brackets() -> None:
    assert b"Host: [::1]:9" in head_of(Message(b""), Target("::1", 9))


def test_a_header_of_the_users_replaces_one_of_ours_whatever_its_case() -> None:
    lines = head_of(Message(b"", headers={"host": "model.example.com"}))
    assert [line for line in lines if line.lower().startswith(b"host:")] == [
        b"host: model.example.com"
    ]
    both = {"authorization": "the run's", "Authorization": "the tenant's"}
    lines = head_of(Message(b"", headers=both))
    assert [line for line in lines if line.lower().startswith(b"authorization:")] == [
        b"Authorization: the tenant's"
    ]


@pytest.mark.parametrize("url", ["http://user:sekret@h:1", "https://sekret@h", "u:sekret@h:80"])
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="--header") as caught:
        base_url(url)
    assert "sekret" not in str(caught.value)
