"""Needs vLLM installed: what the warm-up computes is nobody's traffic."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest


async def test_no_token_of_the_warm_up_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from forebay.observability import catalogue
    from forebay.serving.app import vllm_server as module
    from forebay.serving.engine import Telemetry

    telemetry = Telemetry(lambda: 0.0)

    async def warm_up(*_: object) -> None:
        telemetry.count(catalogue.PROMPT_TOKENS, amount=45_000)
        telemetry.count(catalogue.OUTPUT_TOKENS, amount=4_500)
        telemetry.sample(catalogue.TTFT, "interactive", 0.3)

    async def reset() -> None:
        pass

    monkeypatch.setattr(module, "warm_up", warm_up)
    config = SimpleNamespace(get_vocab_size=lambda: 9)
    client = SimpleNamespace(model_config=config, reset_prefix_cache=reset)
    replica = SimpleNamespace(telemetry=telemetry, admission=None, tap=None, clock=None)
    served: Any = SimpleNamespace(
        _replica=replica, engine=SimpleNamespace(client=client), _run_prompt=None
    )
    await module.ForebayServer._warm_up(served)
    told: list[Any] = []
    backend: Any = SimpleNamespace(add=lambda *one: told.append(one), observe=told.append)
    telemetry.flush(backend, {})
    assert not told
    assert telemetry.recent_ttft() == {"ttft_p50": None, "ttft_p99": None}
