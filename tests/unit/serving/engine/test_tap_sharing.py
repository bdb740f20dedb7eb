"""Which prompts the tap takes for sharing KV blocks: those whose hashes are equal in vLLM too."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from admissions import admission_config, admit
from gate_world import STOP, Clock, FakeParams

from forebay.policies.admission import AdmissionController
from forebay.policies.replica import ReplicaCore
from forebay.policies.request import (
    CHUNK,
    Cost,
    CostModel,
)
from forebay.serving.engine import CURRENT_TICKET, EngineHooks, Telemetry

PROMPT = [5] * (4 * CHUNK + 1)


def held(*requests: dict[str, Any], caching: bool = True) -> int:
    """Chunks that such requests hold together; `salt` is their tenant's."""
    return entered(*requests, caching=caching).ledger.prefixes.tokens // CHUNK


def entered(*requests: dict[str, Any], caching: bool = True) -> AdmissionController:
    """Admission once such requests are in the engine, of so many `bytes` of text."""
    config = admission_config(slots=8, kv_tokens=100_000)
    core, clock = ReplicaCore(config, CostModel(8192, 64), lambda: 0.0), Clock()
    admission = core.admission
    tap = EngineHooks(core, Telemetry(clock), clock, STOP, prefix_caching=caching)
    for number, fields in enumerate(requests):
        ticket = admit(admission, Cost(1, len(PROMPT), 4, 4))
        ticket.cache_salt = fields.pop("salt", None)
        ticket.prompt_bytes = fields.pop("bytes", 0)
        CURRENT_TICKET.set(ticket)
        params = FakeParams(4)
        params.__dict__.update(fields.pop("params", {}))
        request = SimpleNamespace(
            request_id=f"r{number}", prompt_token_ids=PROMPT, sampling_params=params, **fields
        )
        tap.on_add(request)
        admission.check_integrity()
    CURRENT_TICKET.set(None)
    return admission


def test_equal_prompts_share() -> None:
    assert held({}, {}, {}) == 4
    assert held({"cache_salt": "a client's"}, {"cache_salt": "another's"}) == 4


def test_those_of_other_salts_or_adapters_do_not() -> None:
    assert held({"salt": "a"}, {"salt": "b"}, {"salt": "a"}) == 8
    adapter = SimpleNamespace(lora_name="tuned")
    assert held({}, {"lora_request": adapter}) == 8


@pytest.mark.parametrize(
    "fields",
    [
        {"mm_features": ["an image"]},
        {"prompt_embeds": "a tensor"},
        {"params": {"skip_reading_prefix_cache": True}},  # it asks for its prompt's logprobs
    ],
)
def test_what_vllm_tells_apart_by_more_than_tokens_is_not_shared(fields: dict[str, Any]) -> None:
    assert held(fields) == 0


def test_nothing_is_shared_where_prefix_caching_is_off() -> None:
    assert held({}, {}, caching=False) == 0


@pytest.mark.parametrize("fields", [{"mm_features": ["an image"]}, {"prompt_embeds": "a tensor"}])
def test_what_is_more_than_text_says_nothing_of_how_long_tokens_are(fields: dict[str, Any]) -> None:
    of_text = entered({"bytes": 100 * len(PROMPT)}).costs.bytes_per_token
    of_more = entered({"bytes": 100 * len(PROMPT), **fields}).costs.bytes_per_token
    assert of_text > 10.0 > of_more == entered().costs.bytes_per_token
