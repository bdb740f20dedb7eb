"""Ctrl-C at any moment leaves no process and no port behind."""

from __future__ import annotations

import json
import signal
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving_process import ENGINE_SERVICE, ServingProcess, port_is_free
from slow_client import reads_to_the_end, unread_answer


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


def test_interrupted_while_a_client_still_reads_an_answer_that_is_made(
    serving: ServingProcess,
) -> None:
    serving.wait_for("Ctrl-C drains")
    body = {"model": "demo", "prompt": "river", "max_tokens": 1_500, "ignore_eos": True}
    with unread_answer(serving, {**body, "logprobs": 5}) as client:
        serving.remember_family()
        serving.process.send_signal(signal.SIGINT)
        serving.wait_for("waiting for clients that still read")
        assert reads_to_the_end(client)
    assert serving.process.wait(timeout=30) == 0
    assert "some requests may still be running" not in serving.lines
    is_gone(serving)


def test_a_taken_port_is_refused_at_once(service: ServingProcess, tmp_path: Path) -> None:
    second = ServingProcess(ENGINE_SERVICE, tmp_path, port=service.port)
    try:
        second.wait_for("server.port.*cannot be used")
        assert second.process.wait(timeout=30) == 3
    finally:
        second.end()
