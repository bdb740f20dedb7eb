"""Emulated replicas behind real Ray Serve and HAProxy."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from eventually import eventually
from serving_process import ServingProcess, openai_client, running

MOST_BYTES = 300 * 10**6
_WAVES = 10
SERVICE = Path(__file__).parent / "service.yaml"


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    """Three emulated replicas."""
    pytest.importorskip("ray")
    with running(SERVICE, tmp_path_factory.mktemp("emulated")) as serving:
        yield serving


@pytest.fixture
def emulated_client(emulated: ServingProcess) -> Iterator[openai.OpenAI]:
    """OpenAI's own client of them, without retries."""
    with openai_client(emulated) as made:
        yield made


def status(service: ServingProcess) -> dict[str, Any]:
    with urllib.request.urlopen(f"{service.url}/forebay/status", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def told_anew(service: ServingProcess) -> dict[str, Any]:
    """The state once every replica has told its own after now."""

    now = time.monotonic()  # one machine, so one such clock for all of its processes
    assert eventually(lambda: all(one["at_s"] > now for one in status(service)["replicas"]))
    return status(service)


def served(found: dict[str, Any]) -> float:
    """Requests finished in the fleet."""
    return float(sum(one["finished"] for one in found["classes"].values()))


def ask(client: openai.OpenAI, text: str, tokens: int) -> Any:
    return client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": text}],
        max_tokens=tokens,
        extra_body={"ignore_eos": True},
    )


def test_openais_client_gets_its_tokens(emulated_client: openai.OpenAI) -> None:
    answer = ask(emulated_client, "hello there", 12)
    assert answer.usage.completion_tokens == 12
    stream = emulated_client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": "hello"}],
        max_tokens=7,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    assert sum(bool(event.choices[0].delta.content) for event in stream) == 7


def test_every_replica_is_used_and_the_fleet_adds_up(
    emulated_client: openai.OpenAI, emulated: ServingProcess
) -> None:
    assert eventually(lambda: len(status(emulated)["replicas"]) == 3)
    before = served(told_anew(emulated))
    asked = 0
    # A replica that is late with its news, as one that has just started may be, is passed over by
    # a wave that takes a fraction of a second: it gets its part of a later one.
    for _ in range(_WAVES):
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda n: ask(emulated_client, f"number {n}", 20), range(36)))
        asked += 36
        found = told_anew(emulated)
        assert served(found) == before + asked
        if all(one["output_tokens"] > 0 for one in found["replicas"]):
            break
    else:
        pytest.fail(f"a replica got none of {asked} requests: {found}")


def test_a_replica_is_small_and_has_no_engine_in_it(emulated: ServingProcess) -> None:
    title = "ray::ServeReplica:emulated:emulated"
    replicas = [
        process
        for process in psutil.Process(emulated.process.pid).children(recursive=True)
        if " ".join(process.cmdline()).startswith(title)
    ]
    assert len(replicas) == 3
    for process in replicas:
        assert process.memory_info().rss < MOST_BYTES
        loaded = {one.path for one in process.memory_maps()}
        assert not any("libtorch" in path or "/vllm/" in path for path in loaded)
