"""Logs of OpenAI-format requests: JSON lines in the shapes that gateways and OpenAI itself write.

Looked for, in this order:

- the time: `at`, `time`, `timestamp`, `ts`, `created_at`, `start_time`, `startTime` or `created` of
  the line, else `created` (or `created_at`) of the response;
- the request: `request`, `request_body`, `input` or `body`, or the line itself, where it has a
  prompt or messages; a `body` inside it, as HTTP logs have it;
- the response: `response`, `response_body`, `output`, or the line itself, with or without a `body`
  (OpenAI's batch output; stored completions are the line itself);
- the counts: `usage` of the response or of the line, or in the line itself.

Bodies may be JSON in a text. Where nothing was counted, texts are measured and the row says so.
The texts become hashes and sizes, and go no further.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from forebay.record.log_lines import (
    LogLine,
    Rules,
    UnreadableLineError,
    class_name,
    whole_number,
)
from forebay.record.own_logs import json_object, moment
from forebay.record.prompt_texts import Prompt, class_of, read_prompt, texts_of
from forebay.record.rows import OUTPUT_TOKENS, PROMPT_TOKENS
from forebay.record.sizes import block_names, estimated_tokens, fitting_blocks

_TIMES = ("at", "time", "timestamp", "ts", "created_at", "start_time", "startTime", "created")
_REQUESTS = ("request", "request_body", "input", "body")
_RESPONSES = ("response", "response_body", "output")
_KEY = "api_key"
_TENANTS = ("tenant", _KEY, "user_api_key_hash", "organization")
_COUNTS = {
    PROMPT_TOKENS: ("prompt_tokens", "input_tokens"),
    OUTPUT_TOKENS: ("completion_tokens", "output_tokens"),
}
_PROMPT_KEYS = ("prompt", "messages", "input")


def read_openai_line(line: str, rules: Rules) -> LogLine:
    """A line of a log of OpenAI-format requests.

    Raises:
        UnreadableLineError: it has no time, no answer, or neither counts nor texts.
    """
    values = json_object(line)
    try:
        return _read(values, rules)
    except (TypeError, AttributeError, OverflowError, RecursionError):
        raise UnreadableLineError("is of no shape that is known") from None


def _read(values: dict[str, Any], rules: Rules) -> LogLine:
    request = _first_body(values, _REQUESTS, _is_request)
    response = _first_body(values, _RESPONSES, _is_response)
    prompt = read_prompt(request)
    prompt_tokens, prompt_exact = _prompt_tokens(values, response, prompt, rules)
    output_tokens, output_exact = _output_tokens(values, response, rules)
    counted = {PROMPT_TOKENS: prompt_exact, OUTPUT_TOKENS: output_exact}
    blocks = block_names(prompt, rules.size, rules.names) if prompt is not None else ()
    named_by = next((name for name in _TENANTS if values.get(name)), "")
    return LogLine(
        at=_time(values, response),
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        blocks=fitting_blocks(blocks, prompt_tokens, rules.size),
        block_tokens=rules.size.tokens,
        class_name=class_name(values.get("class")) or class_of("", request),
        tenant=rules.tenant(values.get(named_by), is_key=named_by == _KEY),
        estimated=tuple(name for name, exact in counted.items() if not exact),
    )


def _time(values: Mapping[str, Any], response: Mapping[str, Any]) -> float:
    for source, names in ((values, _TIMES), (response, ("created", "created_at"))):
        for name in names:
            if source.get(name) is not None:
                return moment(source[name])
    raise UnreadableLineError("has no time")


def _prompt_tokens(
    values: Mapping[str, Any], response: Mapping[str, Any], prompt: Prompt | None, rules: Rules
) -> tuple[int, bool]:
    """The prompt's tokens, and whether they were counted."""
    counted = _counted(values, response, PROMPT_TOKENS)
    if counted is not None:
        return counted, True
    if prompt is None:
        raise UnreadableLineError("has neither a prompt nor its tokens")
    return estimated_tokens(prompt, rules.size), not prompt.text


def _output_tokens(
    values: Mapping[str, Any], response: Mapping[str, Any], rules: Rules
) -> tuple[int, bool]:
    """The same of the answer; an error has none."""
    counted = _counted(values, response, OUTPUT_TOKENS)
    if counted is not None:
        return counted, True
    if response.get("error") or values.get("error"):
        return 0, True
    choices = response.get("choices") or response.get("output") or response.get("content")
    if not choices:
        raise UnreadableLineError("has no answer")
    said = "".join(texts_of(choices if isinstance(choices, list) else [{"content": choices}]))
    size = len(said.encode("utf-8", "surrogatepass"))
    return (rules.size.tokens_in(size) if size else 0), False


def _counted(values: Mapping[str, Any], response: Mapping[str, Any], field: str) -> int | None:
    sources = (response.get("usage"), values.get("usage"), values)
    for source in [source for source in sources if isinstance(source, dict)]:
        for name in _COUNTS[field]:
            if source.get(name) is not None:
                return whole_number(source[name], field)
    return None


def _first_body(
    values: dict[str, Any], names: tuple[str, ...], wanted: Callable[[Mapping[str, Any]], bool]
) -> Mapping[str, Any]:
    """The first body under one of the names that is what is wanted; the line itself at last."""
    for body in _bodies(values, names):
        if wanted(body):
            return body
    return values if wanted(values) else {}


def _bodies(values: dict[str, Any], names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for name in names:
        outer = _decoded(values.get(name))
        if outer is not None:
            inner = _decoded(outer.get("body"))
            yield inner if inner is not None else outer


def _decoded(value: object) -> dict[str, Any] | None:
    """An object, also where it was written as a text."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, dict) else None


def _is_request(body: Mapping[str, Any]) -> bool:
    return any(body.get(key) for key in _PROMPT_KEYS)


def _is_response(body: Mapping[str, Any]) -> bool:
    return any(key in body for key in ("usage", "choices", "output", "content", "error"))
