"""An ordinary asyncio client, as one writes it: aiohttp, a task a request, the default event loop.

What `forebay load` is compared with where the server keeps every core busy. It asks for completions
of fixed length at Poisson times and prints, as JSON, how late it sent each and what it took the
TTFT for, both in seconds.

Run as: python benchmarks/ordinary_client.py URL RATE SECONDS PROMPT_TOKENS OUTPUT_TOKENS
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import aiohttp
import numpy as np

TIMEOUT_S = 120.0


async def ask(
    session: aiohttp.ClientSession, url: str, body: dict[str, Any], due: float
) -> dict[str, float | None]:
    """One request at its time."""
    await asyncio.sleep(due - time.perf_counter())
    sent, first = time.perf_counter(), None
    try:
        async with session.post(f"{url}/v1/completions", json=body) as answer:
            async for line in answer.content:
                if first is None and line.startswith(b"data:"):
                    first = time.perf_counter()
    except (aiohttp.ClientError, TimeoutError):
        pass
    return {"lag": sent - due, "ttft": None if first is None else first - due}


async def main() -> None:
    url, (rate, seconds) = sys.argv[1], map(float, sys.argv[2:4])
    prompt_tokens, output_tokens = map(int, sys.argv[4:6])
    rng = np.random.default_rng()
    count = rng.poisson(rate * seconds)
    times = np.sort(rng.uniform(0, seconds, count))
    bodies = [
        {
            "model": "demo",
            "prompt": rng.integers(300, 1500, prompt_tokens).tolist(),
            "max_tokens": output_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
        for _ in range(count)
    ]
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        origin = time.perf_counter() + 0.5
        tasks = [
            asyncio.create_task(ask(session, url, body, origin + at))
            for body, at in zip(bodies, times.tolist(), strict=True)
        ]
        print(json.dumps(await asyncio.gather(*tasks)))


if __name__ == "__main__":
    asyncio.run(main())
