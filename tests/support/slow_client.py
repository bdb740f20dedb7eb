"""A client on a slow line, which lets an answer wait for it."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eventually import eventually
from serving_process import ServingProcess


@contextmanager
def unread_answer(serving: ServingProcess, body: dict[str, Any]) -> Iterator[socket.socket]:
    """The connection of a streamed completion that is made and hardly read yet."""
    asked = json.dumps({**body, "stream": True}).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(asked)}\r\n\r\n"
    )
    with socket.socket() as client:
        # With a local line's segments, the system would hold megabytes for it.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect(("127.0.0.1", serving.port))
        client.sendall(head.encode() + asked)
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        assert eventually(lambda: _finished(serving) == 1)
        yield client


def reads_to_the_end(client: socket.socket) -> bool:
    """Whether the rest of the answer comes, whole."""
    with client.makefile("rb") as answer:
        return answer.read().endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def _finished(serving: ServingProcess) -> float:
    """Answers that the replica has done with."""
    with urllib.request.urlopen(f"{serving.url}/forebay/status", timeout=10) as answer:
        classes = json.load(answer)["classes"]
    return float(sum(one["finished"] for one in classes.values()))
