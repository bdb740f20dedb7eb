"""The front door over a real engine: what is refused, what is released, what clients cannot do."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from typing import Any

import openai
import pytest
from eventually import eventually
from serving_process import ServingProcess

from forebay.observability.catalogue import (
    ADMITTED,
    CACHED_TOKENS,
    CATALOGUE,
    EMULATION_LATE,
    FINISHED,
    OFFERED,
    QUEUED,
    RUNNING,
    SHED,
    TENANT_TOKENS,
)
from forebay.observability.metric import Metric

FLOOD = 120


def exposition(service: ServingProcess) -> str:
    """The text that Prometheus would scrape."""
    url = f"http://127.0.0.1:{service.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def reading(service: ServingProcess, metric: Metric) -> float:
    """A counter's or gauge's value, added up over its labels."""
    suffix = "(?:_total)?" if metric.kind == "counter" else ""
    rows = re.findall(rf"^ray_{metric.name}{suffix}{{.*}} (\S+)$", exposition(service), re.M)
    return sum(float(row) for row in rows)


async def flood(service: ServingProcess, count: int) -> list[Any]:
    """Answers and errors of `count` requests sent at once."""
    async with openai.AsyncOpenAI(
        base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=120
    ) as client:
        body: dict[str, Any] = {"ignore_eos": True}
        return await asyncio.gather(
            *(
                client.completions.create(
                    model="demo",
                    prompt=[1000 + i] * 200,
                    max_tokens=100,
                    extra_body=body,
                )
                for i in range(count)
            ),
            return_exceptions=True,
        )


async def test_a_flood_is_served_in_part_and_refused_in_part(service: ServingProcess) -> None:
    results = await flood(service, FLOOD)
    refused = [r for r in results if isinstance(r, openai.RateLimitError)]
    served = [r for r in results if not isinstance(r, BaseException)]
    assert len(refused) + len(served) == FLOOD, {type(r) for r in results}
    assert served
    assert refused
    assert all(answer.usage.completion_tokens == 100 for answer in served)
    for refusal in refused:
        assert refusal.code in {"ttft_budget", "queue_full"}
        assert int(refusal.response.headers["retry-after"]) >= 1
        assert int(refusal.response.headers["retry-after-ms"]) > 0
    assert eventually(lambda: reading(service, SHED) >= len(refused))
    assert eventually(lambda: reading(service, RUNNING) + reading(service, QUEUED) == 0)


async def test_every_offered_request_is_admitted_or_shed(service: ServingProcess) -> None:
    def adds_up() -> bool:
        admitted = reading(service, ADMITTED)
        return (
            admitted + reading(service, SHED) == reading(service, OFFERED)
            and reading(service, FINISHED) == admitted
        )

    assert eventually(adds_up)


def test_every_metric_of_the_catalogue_is_exported(service: ServingProcess) -> None:
    def missing() -> list[str]:
        text = exposition(service)
        never = {"forebay_requests_retried", "forebay_tpot_seconds", "forebay_requests_shed"}
        never |= {CACHED_TOKENS.name}  # a counter appears with its first count
        never |= {TENANT_TOKENS.name, EMULATION_LATE.name}  # not of this service
        return [m.name for m in CATALOGUE if m.name not in never and f"ray_{m.name}" not in text]

    assert eventually(lambda: not missing()), missing()


def test_a_client_that_leaves_frees_the_engine(
    service: ServingProcess, client: openai.OpenAI
) -> None:
    streams = [
        client.completions.create(
            model="demo",
            prompt="river",
            max_tokens=3_500,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        for _ in range(3)
    ]
    for stream in streams:
        next(iter(stream))
    assert eventually(lambda: reading(service, RUNNING) == 3)
    for stream in streams:
        stream.close()
    assert eventually(lambda: reading(service, RUNNING) == 0)


@pytest.mark.parametrize(
    "changes", [{"cache_salt": "mine"}, {"cache_salt": "other", "priority": -7}]
)
def test_a_clients_own_salt_and_priority_have_no_effect(
    service: ServingProcess, changes: dict[str, Any]
) -> None:
    ids = [700 + len(changes)] * 640

    def ask() -> None:
        body = {"model": "demo", "prompt": ids, "max_tokens": 1, **changes}
        headers = {"Content-Type": "application/json", "X-Vllm-Priority": "-9"}
        request = urllib.request.Request(
            f"{service.url}/v1/completions", json.dumps(body).encode(), headers
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200

    before = reading(service, CACHED_TOKENS)
    ask()
    del changes["cache_salt"]
    ask()  # without the salt: it finds what the salted request put into the cache
    assert eventually(lambda: reading(service, CACHED_TOKENS) >= before + 600)
