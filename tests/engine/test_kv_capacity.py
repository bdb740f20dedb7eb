"""Needs vLLM installed: how many tokens its KV cache holds, as vLLM itself counts them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest


@pytest.mark.parametrize(("counted", "tokens"), [(50_000, 50_000), (None, 192_000)])
def test_what_vllm_counts_for_its_kinds_of_attention_goes_before_blocks(
    counted: int | None, tokens: int
) -> None:
    from forebay.serving.app.vllm_server import ForebayServer

    cache = SimpleNamespace(
        num_gpu_blocks=12_000,
        block_size=16,
        enable_prefix_caching=True,
        kv_cache_size_tokens=counted,
    )
    scheduler = SimpleNamespace(
        max_num_seqs=8, max_num_batched_tokens=512, scheduler_cls=None, async_scheduling=False
    )
    config = SimpleNamespace(
        cache_config=cache,
        scheduler_config=scheduler,
        model_config=SimpleNamespace(max_model_len=4_096),
    )
    tokenizer = SimpleNamespace(get_vocab=lambda: {"word": 0})
    client = SimpleNamespace(vllm_config=config, get_tokenizer=lambda: tokenizer)
    server: Any = SimpleNamespace(engine=SimpleNamespace(client=client))
    assert ForebayServer._limits(server).kv_tokens == tokens
