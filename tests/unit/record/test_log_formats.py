"""Lines of logs in every format that is read."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.record import BlockSize, Pseudonyms, Rules, line_reader
from forebay.record.access_logs import access_log_reader
from forebay.record.log_lines import LogLine, UnreadableLineError

NOON = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC).timestamp()
RULES = Rules(Pseudonyms(b"s" * 32), size=BlockSize(tokens=4))
KEEP = Rules(Pseudonyms(b"s" * 32), keep_tenants=True)
OPENAI, OWN = line_reader("openai"), line_reader("forebay")
NGINX, HAPROXY = line_reader("nginx"), line_reader("haproxy")

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "what is the time, please?"}]}
RESPONSE = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": int(NOON),
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "twelve"}}],
    "usage": {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35},
}


def openai(values: Any, rules: Rules = RULES) -> LogLine:
    return OPENAI(json.dumps(values), rules)


def own(**values: Any) -> LogLine:
    return OWN(json.dumps(values), RULES)


def test_our_own_lines() -> None:
    line = OWN(
        '{"at":"2026-11-24T12:00:00Z","prompt_tokens":30,"output_tokens":5,"class":"batch",'
        '"tenant":"acme","blocks":["a","b"],"block_tokens":16}',
        KEEP,
    )
    assert line == LogLine(
        at=NOON, prompt_tokens=30, output_tokens=5, blocks=("a", "b"), block_tokens=16,
        class_name="batch", tenant="acme",
    )  # fmt: skip
    assert own(at=NOON * 1000, prompt_tokens=1.0, output_tokens="7").output_tokens == 7


def test_tenants_are_pseudonyms_unless_they_are_to_be_kept() -> None:
    one = own(at=1, prompt_tokens=1, output_tokens=1, tenant="acme").tenant
    again = own(at=2, prompt_tokens=1, output_tokens=1, tenant="acme").tenant
    other = own(at=2, prompt_tokens=1, output_tokens=1, tenant="umbrella").tenant
    assert one == again != other
    assert "acme" not in one
    assert own(at=2, prompt_tokens=1, output_tokens=1).tenant == ""


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ('{"prompt_tokens":1,"output_tokens":1}', "has no at"),
        ('{"at":1,"output_tokens":1}', "has no prompt_tokens"),
        ('{"at":1,"prompt_tokens":"sekret","output_tokens":1}', "prompt_tokens is no count"),
        ('{"at":1,"prompt_tokens":-1,"output_tokens":1}', "prompt_tokens is no count"),
        ('{"at":1,"prompt_tokens":1.5,"output_tokens":1}', "prompt_tokens is no count"),
        ('{"at":1,"prompt_tokens":true,"output_tokens":1}', "prompt_tokens is no count"),
        ('{"at":"sekret","prompt_tokens":1,"output_tokens":1}', "the time is neither"),
        ('{"at":1,"prompt_tokens":1,"output_tokens":1,"class":"a sekret"}', "class is no name"),
        ('{"at":1,"prompt_tokens":1,"output_tokens":1,"blocks":"sekret"}', "blocks is no list"),
    ],
)
def test_what_is_wrong_is_said_and_not_repeated(line: str, says: str) -> None:
    with pytest.raises(UnreadableLineError, match=says) as raised:
        OWN(line, RULES)
    assert "sekret" not in str(raised.value)


@pytest.mark.parametrize(
    "values",
    [
        {"timestamp": NOON, "request": REQUEST, "response": RESPONSE},
        {"time": "2026-11-24T12:00:00Z", "request": {"body": REQUEST},
         "response": {"body": RESPONSE}},
        {"request_body": json.dumps(REQUEST), "response_body": json.dumps(RESPONSE)},
        {"body": REQUEST, "response": RESPONSE},
        {**REQUEST, "response": RESPONSE},
        {"startTime": NOON * 1000, **REQUEST, "response": {}, "prompt_tokens": 30,
         "completion_tokens": 5},
        {"custom_id": "1", "request": REQUEST,
         "response": {"status_code": 200, "body": RESPONSE}, "error": None},
        {"created_at": NOON, **REQUEST, "output": {"usage": {"input_tokens": 30,
                                                              "output_tokens": 5}}},
    ],
)  # fmt: skip
def test_the_shapes_of_gateways(values: dict[str, Any]) -> None:
    line = openai(values)
    assert (line.at, line.prompt_tokens, line.output_tokens) == (NOON, 30, 5)
    assert line.estimated == ()
    assert line.blocks == openai({"request": REQUEST, "response": RESPONSE}).blocks
    assert len(line.blocks) == 1  # 31 bytes in blocks of 16


@pytest.mark.parametrize(
    "values",
    [
        RESPONSE,  # a stored completion
        {"id": "b", "custom_id": "1", "error": None,
         "response": {"status_code": 200, "body": RESPONSE}},  # the Batch API's output
        {"object": "response", "created_at": NOON, "output": [],
         "usage": {"input_tokens": 30, "output_tokens": 5}},
    ],
)  # fmt: skip
def test_an_answer_alone_tells_all_but_what_is_shared(values: dict[str, Any]) -> None:
    line = openai(values)
    assert (line.at, line.prompt_tokens, line.output_tokens) == (NOON, 30, 5)
    assert line.blocks == ()


def test_without_usage_texts_are_measured() -> None:
    response = {key: value for key, value in RESPONSE.items() if key != "usage"}
    line = openai({"at": NOON, "request": REQUEST, "response": response})
    assert (line.prompt_tokens, line.output_tokens) == (8, 2)  # 31 and 6 bytes
    assert line.estimated == ("prompt_tokens", "output_tokens")


def test_an_error_has_no_answer_and_is_a_request_all_the_same() -> None:
    line = openai({"at": NOON, "request": REQUEST, "response": {"error": {"message": "x"}}})
    assert (line.prompt_tokens, line.output_tokens) == (8, 0)


def test_whose_it_is_and_of_which_class() -> None:
    line = openai({"at": NOON, "api_key": "sk-1", "request": {**REQUEST, "service_tier": "flex"},
                   "response": RESPONSE})  # fmt: skip
    assert line.tenant == RULES.names.tenant(b"sk-1")
    assert line.class_name == "batch"


def test_a_key_is_never_kept_as_a_tenants_name() -> None:
    keeping = replace(RULES, keep_tenants=True)
    line = {"at": NOON, "request": REQUEST, "response": RESPONSE}
    assert openai({**line, "tenant": "acme"}, keeping).tenant == "acme"
    assert openai({**line, "api_key": "sk-1"}, keeping).tenant == RULES.names.tenant(b"sk-1")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"request": REQUEST, "response": {"usage": RESPONSE["usage"]}}, "has no time"),
        ({"at": 1, "request": REQUEST}, "has no answer"),
        ({"at": 1, "response": {"choices": []}}, "neither a prompt"),
        ({"at": 1, "custom_id": "1", "method": "POST", "url": "/v1", "body": REQUEST}, "no answer"),
        ({"at": 1, "request": {"messages": 5}, "response": RESPONSE}, "no shape that is known"),
        ({"at": 1, "request": {"prompt": [2**40]}, "response": RESPONSE}, "no shape that is known"),
    ],
)
def test_what_tells_too_little_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(UnreadableLineError, match=says):
        openai(values)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["at", "time", "request", "response", "body", "messages", "prompt", "usage", "choices",
             "content", "role", "prompt_tokens", "output", "input", "created", "tools", "tenant"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None)
@given(json_values)
def test_any_json_is_a_line_or_is_refused(values: Any) -> None:
    for read in (OPENAI, OWN):
        try:
            line = read(json.dumps(values), RULES)
        except UnreadableLineError:
            continue
        assert line.prompt_tokens >= 0
        assert line.output_tokens >= 0


def test_nginx() -> None:
    line = NGINX(
        "1795521602.500 2.500 prompt_tokens=30 output_tokens=5 class=batch tenant=acme", KEEP
    )
    assert line == LogLine(
        at=NOON, prompt_tokens=30, output_tokens=5, class_name="batch", tenant="acme"
    )


def test_haproxy_behind_a_syslog_prefix() -> None:
    line = HAPROXY(
        "Nov 24 12:00:00 lb haproxy[7]: 24/Nov/2026:12:00:00.250 prompt_tokens=30 "
        "output_tokens=5 class=- tenant=-",
        KEEP,
    )
    assert line == LogLine(at=NOON + 0.25, prompt_tokens=30, output_tokens=5)


def test_a_request_without_counts_is_no_request_for_tokens_and_no_error() -> None:
    line = NGINX("1795521602.5 0.1 prompt_tokens=- output_tokens=-", KEEP)
    assert (line.prompt_tokens, line.output_tokens) == (0, 0)


def test_a_pattern_of_ones_own() -> None:
    read = access_log_reader(r"^(?P<time>\S+) in=(?P<prompt_tokens>\d+) out=(?P<output_tokens>\d+)")
    assert read("2026-11-24T12:00:00Z in=30 out=5 rest", RULES).at == NOON
    with pytest.raises(UnreadableLineError, match="does not match"):
        read("something else", RULES)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("(", "regular expression"),
        ("(?P<time>.)", "output_tokens, prompt_tokens"),
        ("(?P<time>.)(?P<prompt_tokens>.)(?P<output_tokens>.)(?P<model>.)", "model means nothing"),
    ],
)
def test_patterns_that_cannot_be(pattern: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        line_reader("nginx", pattern)


def test_formats_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="openai, haproxy, nginx, forebay"):
        line_reader("apache")
    with pytest.raises(ValueError, match="goes with"):
        line_reader("openai", "x")
