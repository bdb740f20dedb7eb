"""Requests by which one client could harm everybody, each found in vLLM's code, are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from gate_world import serving

from forebay.serving.http import (
    InputLimits,
    ParsedRequest,
    RequestRefusedError,
    parse_body,
    read_request,
)

LIMITS = InputLimits(5_000_000, 16, 8, 4_096, None, longest_token=8)
CHAT, COMPLETIONS, RESPONSES, MESSAGES = PATHS = (
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages",
)  # fmt: skip
HELLO = {"role": "user", "content": "hi"}


def parse(path: str, body: dict[str, Any], limits: InputLimits = LIMITS) -> ParsedRequest:
    return read_request(path, body, limits, None)


def refused(path: str, body: dict[str, Any], limits: InputLimits = LIMITS) -> RequestRefusedError:
    with pytest.raises(RequestRefusedError) as caught:
        parse(path, body, limits)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("allowed_token_ids", list(range(1_025))),
        ("logit_bias", {str(i): 1 for i in range(1_025)}),
        ("stop_token_ids", list(range(101))),
        ("bad_words", ["x"] * 65),
        ("bad_words", ["x " * 5_000]),
        ("structured_outputs", {"grammar": "\n" * 200_000 + "a"}),
        ("response_format", {"json_schema": {"schema": {"x" * 70_000: {}}}}),
        ("request_id", "x" * 129),
        ("session_id", "x" * 129),
        ("repetition_detection", {"max_pattern_size": 10**6, "min_count": 2}),
        ("tools", [{}] * 1_025),
    ],
)
@pytest.mark.parametrize("path", PATHS)
def test_what_would_stop_an_engine_or_its_streams_is_refused_by_its_name(
    path: str, field: str, value: Any
) -> None:
    body = {"prompt": "a", "messages": [HELLO], "input": "hi", field: value}
    found = refused(path, body)
    assert (found.code, found.param) == ("out_of_range", field)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("allowed_token_ids", list(range(1_024))),
        ("logit_bias", {str(i): 1 for i in range(300)}),  # OpenAI's own bound
        ("bad_words", ["a word", "another"]),
        ("response_format", {"json_schema": {"schema": {"type": "object"}}}),
        ("kv_transfer_params", None),
        ("stop_token_ids", None),
        ("repetition_detection", {"max_pattern_size": 20, "min_count": 3}),
    ],
)
def test_what_people_ask_for_is_let_through(field: str, value: Any) -> None:
    assert parse(CHAT, {"messages": [HELLO], field: value}).shape.prompt_bytes > 0


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("field", ["kv_transfer_params", "ec_transfer_params"])
def test_nobody_brings_the_engine_another_prompt_than_was_priced(path: str, field: str) -> None:
    body = {"prompt": "a", "messages": [HELLO], "input": "hi"}
    found = refused(path, {**body, field: {"prompt_token_ids": [True]}})
    assert (found.code, found.param) == ("unsupported", field)


@pytest.mark.parametrize(
    ("field", "messages", "code"),
    [
        ("messages", [{}] * 20_000, "out_of_range"),
        ("messages", [{}] * 2_000, "invalid_type"),
        ("messages", [HELLO, 7], "invalid_type"),
        ("messages", [{"role": 3, "content": "x"}], "invalid_type"),
        ("messages", [{"role": "user", "content": [{}]}], "invalid_type"),
        ("messages", [{"role": "user", "content": [{"type": "text"}] * 600}] * 2, "out_of_range"),
        ("input", [{}] * 2_000, "invalid_type"),
    ],
)
def test_messages_that_are_none_are_refused_at_the_first(
    field: str, messages: list[Any], code: str
) -> None:
    found = refused(RESPONSES if field == "input" else CHAT, {field: messages})
    assert (found.code, found.param) == (code, field)


async def test_tokenize_bodies_of_nothing_but_structure_never_reach_the_app() -> None:
    world = serving(max_body=1_000_000)
    for body in (b"{}", b'{"role": 1}'):
        messages = b'{"messages":[' + b",".join([body] * 2_000) + b"]}"
        answer = await world.post("/tokenize", messages)
        assert (answer.status, answer.error["code"]) == (400, "invalid_type")
    assert not world.seen


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "x" * 6_000, "image_url": ""},
        {"role": "user", "content": "x" * 6_000, "type": "image"},
        {"role": "user", "content": [{"type": "text", "text": "x" * 6_000, "image_url": "u"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "x" * 6_000}]},
        {"role": "x" * 6_000, "content": "hi"},
        {"role": "assistant", "content": None, "function_call": {"name": "x" * 6_000}},
        {"role": "user", "name": "x" * 6_000, "content": "hi"},
    ],
)
def test_no_key_hides_a_prompt(message: dict[str, Any]) -> None:
    assert 6_000 <= parse(CHAT, {"messages": [message]}).shape.prompt_bytes <= 6_100


def test_what_a_template_is_given_is_priced() -> None:
    kwargs = {"documents": ["x" * 6_000], "date_string": "x" * 100}
    assert parse(CHAT, {"messages": [], "chat_template_kwargs": kwargs}).shape.prompt_bytes > 6_000
    before = [{"role": "user", "content": "x" * 6_000}]
    asked = {"input": "hi", "previous_input_messages": before}
    assert parse(RESPONSES, asked).shape.prompt_bytes > 6_000


@pytest.mark.parametrize(
    ("path", "field"), [(CHAT, "instructions"), (CHAT, "system"), (MESSAGES, "instructions")]
)
def test_fields_of_other_routes_are_no_prompt(path: str, field: str) -> None:
    assert parse(path, {"messages": [], field: "x" * 6_000}).shape.prompt_bytes < 100


@pytest.mark.parametrize("fields", [{"prompt_logprobs": 20}, {"echo": True, "logprobs": 20}])
def test_log_probabilities_of_a_long_prompt_are_refused(fields: dict[str, Any]) -> None:
    assert refused(COMPLETIONS, {"prompt": [7] * 2_000, **fields}).code == "out_of_range"
    assert parse(COMPLETIONS, {"prompt": [7] * 1_500, **fields}).shape.prompt_ids == 1_500
    one = {key: 1 if value == 20 else value for key, value in fields.items()}
    assert parse(COMPLETIONS, {"prompt": [7] * 4_000, **one}).shape.prompt_ids == 4_000


def test_an_image_by_its_name_is_refused_where_caches_are_apart() -> None:
    part = {"type": "image_url", "image_url": None, "uuid": "invoice-17"}
    body = {"messages": [{"role": "user", "content": [part]}]}
    assert parse(CHAT, body).shape.prompt_bytes > 0
    assert refused(CHAT, body, replace(LIMITS, caches_apart=True)).code == "unsupported"


def test_what_is_cut_to_a_token_is_not_tokenized_without_bound() -> None:
    body = {"prompt": "x" * 60_000, "truncate_prompt_tokens": 1}
    assert refused(COMPLETIONS, body).code == "context_length_exceeded"
    assert parse(COMPLETIONS, {**body, "prompt": "x" * 40_000}).shape.truncated_to == 1


def test_bodies_within_the_bounds_are_read_as_before() -> None:
    data = parse_body(b'{"messages": [{"role": "user", "content": "hello"}]}', LIMITS)
    assert parse(CHAT, data).shape.prompt_bytes == 16 + 5


def test_an_item_of_an_answer_that_is_sent_back_is_one_whatever_else_is_null() -> None:
    items = [{"role": None, "type": "reasoning", "summary": []}, {"role": "user", "content": "x"}]
    assert parse(RESPONSES, {"input": items}).shape.prompt_bytes > 0


def test_embeddings_are_priced_as_what_they_stand_for() -> None:
    parts = [{"type": "image_embeds", "image_embeds": "A" * 100_000}]
    body = {"messages": [{"role": "user", "content": parts}]}
    assert parse(CHAT, body).shape.prompt_bytes < 10_000
