"""Ctrl-C at any moment leaves no process and no port behind."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from eventually import eventually
from serving_process import ENGINE_SERVICE, ServingProcess, port_is_free


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[ServingProcess]:
    made = ServingProcess(ENGINE_SERVICE, tmp_path, drain="60s")
    try:
        yield made
    finally:
        made.end()


def is_gone(serving: ServingProcess) -> None:
    assert serving.leftovers() == []
    assert port_is_free(serving.port)
    assert port_is_free(serving.metrics_port)
    assert not any("Traceback" in line for line in serving.lines), "\n".join(serving.lines[-40:])


@pytest.mark.parametrize(
    "moment", ["starting Ray$", "starting Ray Serve", "starting a replica", "loading the model"]
)
def test_interrupted_while_starting(serving: ServingProcess, moment: str) -> None:
    serving.wait_for(moment)
    assert serving.interrupt() == 0
    is_gone(serving)


def test_terminated_while_starting(serving: ServingProcess) -> None:
    serving.wait_for("loading the model")
    assert serving.interrupt(by=signal.SIGTERM) == 0
    is_gone(serving)


def test_interrupted_under_load(serving: ServingProcess) -> None:
    serving.wait_for("Ctrl-C drains")
    body = {"model": "demo", "prompt": "river", "max_tokens": 600, "ignore_eos": True}
    request = urllib.request.Request(
        f"{serving.url}/v1/completions",
        json.dumps({**body, "stream": True}).encode(),
        {"Content-Type": "application/json"},
    )
    started = threading.Barrier(5, timeout=60)
    endings: list[bytes] = []

    def ask() -> None:
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.readline()
            started.wait()
            endings.append(answer.read().strip().splitlines()[-1])

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    started.wait()
    assert serving.interrupt() == 0
    for asker in askers:
        asker.join()
    assert endings == [b"data: [DONE]"] * 4, "an answer was cut by draining"
    is_gone(serving)


def finished(serving: ServingProcess) -> float:
    """Answers that the replica has done with."""
    with urllib.request.urlopen(f"{serving.url}/forebay/status", timeout=10) as answer:
        classes = json.load(answer)["classes"]
    return float(sum(one["finished"] for one in classes.values()))


def test_interrupted_while_a_client_still_reads_an_answer_that_is_made(
    serving: ServingProcess,
) -> None:
    serving.wait_for("Ctrl-C drains")
    asked = {"model": "demo", "prompt": "river", "max_tokens": 1_500, "ignore_eos": True}
    body = json.dumps({**asked, "logprobs": 5, "stream": True}).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.socket() as client:
        # As on a slow line: with a local one's segments, the system would hold megabytes for it.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect(("127.0.0.1", serving.port))
        client.sendall(head.encode() + body)
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        assert eventually(lambda: finished(serving) == 1)
        serving.process.send_signal(signal.SIGINT)
        serving.wait_for("draining")
        time.sleep(4.0)  # longer than it takes to stop
        with client.makefile("rb") as answer:
            assert answer.read().endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert serving.process.wait(timeout=30) == 0
    assert "some requests were still running" not in serving.lines
    is_gone(serving)


def test_a_taken_port_is_refused_at_once(service: ServingProcess, tmp_path: Path) -> None:
    second = ServingProcess(ENGINE_SERVICE, tmp_path, port=service.port)
    try:
        second.wait_for("server.port.*cannot be used")
        assert second.process.wait(timeout=30) == 3
    finally:
        second.end()
