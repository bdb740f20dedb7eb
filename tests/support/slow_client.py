"""A client on a slow line, which lets an answer wait for it, and Ctrl-C meanwhile."""

from __future__ import annotations

import json
import signal
import socket
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from eventually import eventually
from serving_process import ServingProcess


@contextmanager
def unread_answer(
    serving: ServingProcess, body: dict[str, Any], headers: dict[str, str] | None = None
) -> Iterator[socket.socket]:
    """The connection of a streamed completion that is made and hardly read yet."""
    given = headers or {}
    before = _finished(serving, given)
    asked = json.dumps({**body, "stream": True}).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(asked)}\r\n"
        + "".join(f"{name}: {value}\r\n" for name, value in given.items())
        + "\r\n"
    )
    with socket.socket() as client:
        # With a local line's segments, the system would hold megabytes for it.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect(("127.0.0.1", serving.port))
        client.sendall(head.encode() + asked)
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        assert eventually(lambda: _finished(serving, given) == before + 1)
        yield client


def reads_to_the_end(client: socket.socket) -> bool:
    """Whether the rest of the answer comes, whole."""
    with client.makefile("rb") as answer:
        return answer.read().endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def drains_to_the_end(
    serving: ServingProcess,
    headers: dict[str, str] | None = None,
    more: dict[str, Any] | None = None,
) -> None:
    """Ctrl-C under load: no answer is cut, and who reads slowly is waited for.

    `more` is asked of the slow one's answer, which has to be longer than what the system holds.
    """
    body = {"model": "demo", "prompt": ["river"] * 8, "ignore_eos": True}
    request = urllib.request.Request(
        f"{serving.url}/v1/completions",
        json.dumps({**body, "prompt": "river", "max_tokens": 600, "stream": True}).encode(),
        {"Content-Type": "application/json", **(headers or {})},
    )
    begun = threading.Barrier(5, timeout=60)

    def last_line(_: int) -> bytes:
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.readline()
            begun.wait()
            return bytes(answer.read().strip().splitlines()[-1])

    slow = unread_answer(serving, {**body, "max_tokens": 1_500, **(more or {})}, headers)
    with slow as client, ThreadPoolExecutor(4) as pool:
        endings = pool.map(last_line, range(4))
        begun.wait()
        serving.remember_family()
        serving.process.send_signal(signal.SIGINT)
        assert list(endings) == [b"data: [DONE]"] * 4, "an answer was cut by draining"
        serving.wait_for("waiting for clients that still read", timeout_s=60)
        assert reads_to_the_end(client)
    assert serving.process.wait(timeout=60) == 0
    assert "some requests may still be running" not in serving.lines


def _finished(serving: ServingProcess, headers: dict[str, str]) -> float:
    """Answers that the replicas have done with."""
    request = urllib.request.Request(f"{serving.url}/forebay/status", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        classes = json.load(answer)["classes"]
    return float(sum(one["finished"] for one in classes.values()))
