"""An engine that dies: whoever it fails, and whoever comes then, is told to come again."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import psutil
from eventually import eventually
from serving_process import ServingProcess


def ask(serving: ServingProcess, tokens: int) -> tuple[int, str | None, str | None]:
    """Status, code of the error and Retry-After."""
    body = {"model": "demo", "prompt": "river", "max_tokens": tokens, "ignore_eos": True}
    request = urllib.request.Request(
        f"{serving.url}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, None, None
    except urllib.error.HTTPError as error:
        with error:
            code = json.load(error)["error"]["code"]
            return error.code, code, error.headers["retry-after"]


def engine_of(serving: ServingProcess) -> psutil.Process:
    children = psutil.Process(serving.process.pid).children(recursive=True)
    [engine] = [one for one in children if "EngineCore" in " ".join(one.cmdline())]
    return engine


def running(serving: ServingProcess) -> int:
    with urllib.request.urlopen(f"{serving.url}/forebay/status", timeout=20) as answer:
        return int(json.load(answer)["classes"]["interactive"]["running"])


def test_who_an_engine_fails_and_who_comes_then_is_told_to_come_again(
    doomed_service: ServingProcess,
) -> None:
    assert ask(doomed_service, 4)[0] == 200
    with ThreadPoolExecutor() as pool:
        begun = pool.submit(ask, doomed_service, 3_000)
        assert eventually(lambda: running(doomed_service) == 1)
        engine_of(doomed_service).kill()
        assert begun.result() == (500, None, "2")
    assert ask(doomed_service, 4) == (503, "replica_failed", "2")
