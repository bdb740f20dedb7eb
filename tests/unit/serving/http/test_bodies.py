"""Reading bodies: whatever JSON a client sends, the answer is a shape or a clear refusal."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.request import CostModel
from forebay.serving.http import (
    InputLimits,
    ParsedRequest,
    RequestRefusedError,
    parse_body,
    read_request,
)

LIMITS = InputLimits(1_000_000, 16, 8, 4096, None, longest_token=8)
PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]

FIELDS = [
    "messages",
    "prompt",
    "input",
    "system",
    "tools",
    "n",
    "best_of",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "min_tokens",
    "ignore_eos",
    "truncate_prompt_tokens",
    "stream",
    "service_tier",
    "background",
    "role",
    "tool_calls",
    "text",
    "content",
]

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)

plausible = st.fixed_dictionaries(
    {},
    optional={
        "prompt": st.text(max_size=5) | st.lists(st.text(max_size=5), min_size=1, max_size=12),
        "messages": st.just([{"role": "user", "content": "x"}]),
        "input": st.text(max_size=5),
        "n": st.integers(-1, 20),
        **dict.fromkeys(
            ["max_tokens", "max_completion_tokens", "max_output_tokens", "min_tokens"],
            st.integers(-1, 5_000),
        ),
    },
)
bodies = st.dictionaries(st.sampled_from(FIELDS), anything, max_size=6) | plausible


def parse_request(
    path: str, body: bytes, limits: InputLimits, class_header: bytes | None
) -> ParsedRequest:
    """As the gate does."""
    return read_request(path, parse_body(body, limits), limits, class_header)


def parse(path: str, body: Any) -> Any:
    return parse_request(path, json.dumps(body).encode(), LIMITS, None)


def read(path: str, body: bytes) -> RequestRefusedError | ParsedRequest:
    try:
        return parse_request(path, body, LIMITS, None)
    except RequestRefusedError as refusal:
        return refusal


@given(st.sampled_from(PATHS), bodies)
def test_any_object_is_read_or_refused(path: str, body: dict[str, Any]) -> None:
    result = read(path, json.dumps(body).encode())
    if isinstance(result, RequestRefusedError):
        assert 400 <= result.status < 500
        assert result.message
        return
    shape = result.shape
    assert shape.prompts * shape.samples <= LIMITS.max_samples
    assert shape.prompt_bytes >= 0
    assert shape.prompt_ids >= 0
    assert shape.max_tokens is None or 1 <= shape.max_tokens <= LIMITS.context_tokens


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    result = read("/v1/completions", body)
    assert isinstance(result, ParsedRequest) or result.status == 400


@given(st.lists(st.text(max_size=40), min_size=1, max_size=6))
def test_all_text_of_a_conversation_is_counted(texts: list[str]) -> None:
    messages = [{"role": "user", "content": text} for text in texts]
    parts = [{"role": "user", "content": [{"type": "text", "text": t}]} for t in texts]
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    for body in ({"messages": messages}, {"messages": parts}):
        assert parse("/v1/chat/completions", body).shape.prompt_bytes >= size


@pytest.mark.parametrize("path", PATHS)
def test_each_route_s_own_limit_on_tokens_is_read(path: str) -> None:
    field = {
        "/v1/chat/completions": "max_completion_tokens",
        "/v1/responses": "max_output_tokens",
    }.get(path, "max_tokens")
    assert parse(path, {field: 7}).shape.max_tokens == 7


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/chat/completions", "max_output_tokens"),
        ("/v1/responses", "max_tokens"),
        ("/v1/messages", "max_completion_tokens"),
    ],
)
def test_a_limit_that_the_route_does_not_know_counts_for_nothing(path: str, field: str) -> None:
    assert parse(path, {field: 1}).shape.max_tokens is None


@pytest.mark.parametrize(
    ("path", "samples"),
    [
        ("/v1/completions", 4),
        ("/v1/chat/completions", 4),
        ("/v1/responses", 1),
        ("/v1/messages", 1),
    ],
)
def test_several_answers_are_counted_where_they_are_made(path: str, samples: int) -> None:
    body = {"n": 4, "best_of": 8, "prompt": "a"}
    assert parse(path, body).shape.samples == samples


@pytest.mark.parametrize("path", PATHS)
def test_beam_search_would_compute_a_prompt_again_and_again_and_is_refused(path: str) -> None:
    with pytest.raises(RequestRefusedError, match="use_beam_search"):
        parse(path, {"prompt": "a", "use_beam_search": True})


def test_completions_without_a_limit_get_openais_sixteen() -> None:
    assert parse("/v1/completions", {"prompt": "a"}).shape.max_tokens == 16


def test_tools_are_part_of_the_prompt() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "d" * 500}}
    with_tools = parse("/v1/chat/completions", {"messages": [], "tools": [tool]})
    assert with_tools.shape.prompt_bytes > 500


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions"])
def test_background_work_would_escape_the_gate_and_is_refused(path: str) -> None:
    with pytest.raises(RequestRefusedError, match="background"):
        parse(path, {"background": True})


@pytest.mark.parametrize(
    ("header", "body", "expected"),
    [
        (None, {}, "interactive"),
        (b"interactive", {}, "interactive"),
        (b"batch", {}, "batch"),
        (b"Batch", {}, "batch"),
        (b" INTERACTIVE ", {}, "interactive"),
        (None, {"service_tier": "flex"}, "batch"),
        (b"interactive", {"service_tier": "flex"}, "interactive"),
        (None, {"service_tier": "auto"}, "interactive"),
    ],
)
def test_the_class_is_read_in_any_case(
    header: bytes | None, body: dict[str, Any], expected: str
) -> None:
    read = parse_request("/v1/chat/completions", json.dumps(body).encode(), LIMITS, header)
    assert read.class_name == expected


@pytest.mark.parametrize("header", [b"batsch", b"", b"batch, interactive", b"\xe9" * 500])
def test_an_unknown_class_is_not_taken_for_interactive(header: bytes) -> None:
    with pytest.raises(RequestRefusedError) as refused:
        parse_request("/v1/chat/completions", b"{}", LIMITS, header)
    assert refused.value.status == 400
    assert (refused.value.code, refused.value.param) == ("unknown_class", "x-forebay-class")
    assert "write interactive or batch" in refused.value.message
    assert len(refused.value.message) < 120


@pytest.mark.parametrize("value", ["1000", 1000.0, True, [4], {}])
@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/completions", "n"),
        ("/v1/chat/completions", "n"),
        ("/v1/chat/completions", "max_tokens"),
        ("/v1/chat/completions", "max_completion_tokens"),
        ("/v1/responses", "max_output_tokens"),
        ("/v1/messages", "max_tokens"),
    ],
)
def test_numbers_that_make_the_price_are_whole_or_refused(
    path: str, field: str, value: object
) -> None:
    refusal = read(path, json.dumps({"prompt": "a", "messages": [], field: value}).encode())
    assert isinstance(refusal, RequestRefusedError)
    assert (refusal.status, refusal.code, refusal.param) == (400, "invalid_type", field)
    assert json.dumps(value) in refusal.message


def test_without_a_limit_of_its_own_a_request_is_priced_at_the_services() -> None:
    limits = replace(LIMITS, max_output_tokens=200)
    body = json.dumps({"messages": []}).encode()
    assert parse_request(PATHS[0], body, limits, None).shape.max_tokens == 200
    for sent, priced in ((b"{}", 16), (b'{"max_tokens": null}', 16), (b'{"max_tokens": 9}', 9)):
        shape = parse_request("/v1/completions", sent, limits, None).shape
        assert shape.max_tokens == priced
    assert (
        parse_request(
            "/v1/completions", b"{}", replace(LIMITS, max_output_tokens=8), None
        ).shape.max_tokens
        == 8
    )


def test_no_answer_can_have_to_be_longer_than_it_may() -> None:
    body = json.dumps({"messages": [], "min_tokens": 300}).encode()
    assert isinstance(read(PATHS[0], body), ParsedRequest)
    with pytest.raises(RequestRefusedError) as refused:
        parse_request(PATHS[0], body, replace(LIMITS, max_output_tokens=200), None)
    assert (refused.value.code, refused.value.param) == ("out_of_range", "min_tokens")


@pytest.mark.parametrize(
    ("path", "fields", "least"),
    [
        (PATHS[0], {}, 0),
        (PATHS[0], {"min_tokens": 300, "max_tokens": 400}, 300),
        (PATHS[0], {"min_tokens": -1}, 0),
        (PATHS[0], {"ignore_eos": True, "max_tokens": 400}, 400),
        (PATHS[0], {"ignore_eos": True}, LIMITS.context_tokens),
        (PATHS[0], {"ignore_eos": False, "min_tokens": 7}, 7),
        (PATHS[1], {"ignore_eos": "yes"}, 16),  # which vLLM takes for true
        (PATHS[1], {"ignore_eos": True, "max_tokens": None}, 16),
        (PATHS[2], {"ignore_eos": 1, "min_tokens": 5, "max_output_tokens": 30}, 30),
        (PATHS[2], {"min_tokens": 5}, 0),
        (PATHS[3], {"ignore_eos": True, "min_tokens": 5, "max_tokens": 30}, 0),
    ],
)
def test_what_keeps_an_answer_from_ending_is_read_where_vllm_reads_it(
    path: str, fields: dict[str, Any], least: int
) -> None:
    assert parse(path, {"messages": [], "prompt": "x", **fields}).shape.least == least


@pytest.mark.parametrize("part", ["{}", "[]", '""', '{"a": [1]}'])
def test_a_body_of_nothing_but_structure_is_refused_before_it_is_parsed(
    monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setattr(json, "loads", lambda _: pytest.fail("parsed"))
    body = f'{{"messages": [], "x": [{", ".join([part] * 40_000)}]}}'.encode()
    refusal = read(PATHS[0], body)
    assert isinstance(refusal, RequestRefusedError)
    assert (refusal.status, refusal.code) == (400, "too_complex")


@given(st.lists(st.sampled_from(['"', "\\", "{", "[", ",", "é", "a\n"]), max_size=30))
def test_what_stands_in_text_is_no_structure(marks: list[str]) -> None:
    text = "".join(marks) * 1_000 + "{[,"
    body = {"messages": [{"role": "user", "content": text}]}
    generous = replace(LIMITS, context_tokens=1_000_000)
    parsed = parse_request(PATHS[0], json.dumps(body).encode(), generous, None)
    assert parsed.shape.prompt_bytes >= len(text.encode())


def test_prompts_of_token_ids_may_be_as_many_as_fit() -> None:
    ids = [[7] * LIMITS.context_tokens] * LIMITS.max_samples
    assert parse("/v1/completions", {"prompt": ids}).shape.prompts == LIMITS.max_samples
    refusal = read("/v1/completions", json.dumps({"prompt": [7] * 60_000}).encode())
    assert isinstance(refusal, RequestRefusedError)
    assert refusal.code == "too_complex"


WORDS = "x" * 4_000


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (PATHS[3], {"type": "tool_use", "id": "t", "name": "write", "input": {"text": WORDS}}),
        (PATHS[3], {"type": "thinking", "thinking": WORDS, "signature": "s"}),
        (PATHS[0], {"type": "video_url", "video_url": {"url": "https://films.example/1"}}),
        (PATHS[0], {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}),
    ],
)
def test_whatever_is_rendered_of_a_message_is_priced(path: str, fields: dict[str, Any]) -> None:
    messages = [{"role": "assistant", "content": [fields]}]
    assert parse(path, {"messages": messages}).shape.prompt_bytes >= len(WORDS)


def test_what_an_assistant_thought_and_documents_are_priced() -> None:
    thought = {"role": "assistant", "content": "yes", "reasoning": WORDS}
    assert parse(PATHS[0], {"messages": [thought]}).shape.prompt_bytes > len(WORDS)
    documents = [{"title": "t", "text": WORDS}]
    shape = parse(PATHS[0], {"messages": [], "documents": documents}).shape
    assert shape.prompt_bytes > len(WORDS)


@pytest.mark.parametrize(
    ("path", "fields", "most"),
    [
        (PATHS[1], {"truncate_prompt_tokens": 50}, 50),
        (PATHS[1], {"truncate_prompt_tokens": -1}, LIMITS.context_tokens - 16),
        (PATHS[0], {"truncate_prompt_tokens": -1}, LIMITS.context_tokens),
        (PATHS[2], {"truncation": "auto", "max_output_tokens": 96}, LIMITS.context_tokens - 96),
        (PATHS[2], {"truncation": "disabled"}, None),
        (PATHS[2], {"truncate_prompt_tokens": 50}, None),
    ],
)
def test_a_prompt_that_vllm_cuts_is_priced_as_what_is_left_of_it(
    path: str, fields: dict[str, Any], most: int | None
) -> None:
    long = "word " * 2 * LIMITS.context_tokens
    messages = [{"role": "user", "content": long}]
    body = json.dumps({"prompt": long, "messages": messages, "input": long, **fields}).encode()
    parsed = read(path, body)
    if most is None:
        assert isinstance(parsed, RequestRefusedError)
        assert parsed.code == "context_length_exceeded"
        return
    assert isinstance(parsed, ParsedRequest)
    cost = CostModel(LIMITS.context_tokens, 100).price(parsed.shape)
    assert cost.prefill_tokens == most


def test_of_several_prompts_each_is_cut() -> None:
    body = {"prompt": [[7] * 900, [7] * 900], "n": 2, "truncate_prompt_tokens": 100}
    cost = CostModel(LIMITS.context_tokens, 100).price(parse(PATHS[1], body).shape)
    assert (cost.sequences, cost.prefill_tokens) == (4, 400)


@pytest.mark.parametrize(
    ("path", "fields", "cached"),
    [
        (PATHS[1], {}, 100),
        (PATHS[1], {"echo": True}, 100),
        (PATHS[1], {"logprobs": 3}, 100),
        (PATHS[1], {"echo": True, "logprobs": 1}, 0),
        (PATHS[1], {"prompt_logprobs": 0}, 0),
        (PATHS[0], {"echo": True}, 0),
        (PATHS[0], {"prompt_logprobs": 2}, 0),
        (PATHS[0], {"logprobs": True, "top_logprobs": 2}, 100),
        (PATHS[0], {"truncate_prompt_tokens": 200}, 0),
    ],
)
def test_the_cache_counts_only_where_the_engine_reads_it(
    path: str, fields: dict[str, Any], cached: int
) -> None:
    both = {"prompt": WORDS, "messages": [{"role": "user", "content": WORDS}]}
    only = "prompt" if path == PATHS[1] else "messages"
    data = {only: both[only], **fields}
    parsed = read_request(path, data, LIMITS, None, cached_tokens=100)
    assert CostModel(LIMITS.context_tokens, 100).price(parsed.shape).cached_tokens == cached
