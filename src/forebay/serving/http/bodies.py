"""Reading a request's body: what it asks for, without a tokenizer, within limits.

Refusals here take no engine time: size, JSON, nesting, numbers out of range, prompts that cannot
fit whatever the tokenizer makes of them. What this cannot judge (unknown fields, other types, the
exact prompt length) is left to vLLM, which answers 400 before its engine sees anything. It is not
left the numbers that a price is made of: vLLM reads "1000" and 1000.0 as 1000.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from forebay.policies.request import BATCH, INTERACTIVE, RequestShape
from forebay.serving.http.errors import RequestRefusedError
from forebay.serving.http.field_limits import (
    check_fields,
    check_messages,
    check_prompt_logprobs,
)
from forebay.serving.http.json_bodies import loads
from forebay.serving.names import CLASS_HEADER
from forebay.wire import DUMPED_FIELDS, MEDIA_BYTES, is_media, prompts_in

_USUAL_ROLE = 16  # characters of a role that none is longer than
# A context of text may be cut, or tokenized alone, in one piece.
TEXT_PER_TOKEN = 12
_BYTES_PER_MESSAGE = 16  # role and separators that a chat template adds, about four tokens
_COMPLETIONS_DEFAULT_TOKENS = 16  # OpenAI's (and vLLM's) default for /v1/completions
# A route's limits on output tokens, the one that counts first. vLLM ignores every other route's: a
# client could pass for modest by one.
LIMITS_OF = {
    "/v1/completions": ("max_tokens",),
    "/v1/chat/completions": ("max_completion_tokens", "max_tokens"),
    "/v1/responses": ("max_output_tokens",),
    "/v1/messages": ("max_tokens",),
}
# What a route renders, of messages and of what it prints as JSON; vLLM ignores others' fields.
_MESSAGES_OF = {
    "/v1/chat/completions": ("messages",),
    "/v1/responses": ("input", "instructions", "previous_input_messages"),
    "/v1/messages": ("system", "messages"),
}
_DUMPED_OF_ALL = ("tools", "functions", "documents", "chat_template_kwargs")
# Where vLLM takes `n`, answers to a prompt, and `min_tokens`; and where it takes `ignore_eos`.
_SAMPLED = frozenset({"/v1/completions", "/v1/chat/completions"})
_ENDLESS = _SAMPLED | {"/v1/responses"}
_AS_FITS = -1  # vLLM's word for a prompt that is cut to what the context has room for
_SHOWN = 40  # characters of a value that is wrong
_MOST_PARTS = 20_000  # of a body: they take some 20 ms
_SMALL = 64 * 1024  # bytes of a body that takes no longer, whatever it is
# A JSON string, also one that does not end; possessive, so that no body takes a second pass.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_SHORT_FIELDS = frozenset(("role", "type"))  # words that a message's own bytes have room for
_NESTING = frozenset((dict, list))


@dataclass(frozen=True, slots=True)
class InputLimits:
    """What a request may ask for.

    Attributes:
        max_body: bytes.
        max_depth: nesting of objects and arrays in the body.
        max_samples: answers per request: prompts times `n`.
        context_tokens: prompt and answer together.
        max_output_tokens: most tokens one answer may ask for; None: the context.
        longest_token: bytes of the longest token, so that some prompts are known not to fit.
        caches_apart: tenants do not share what the engine has computed.
    """

    max_body: int
    max_depth: int
    max_samples: int
    context_tokens: int
    max_output_tokens: int | None
    longest_token: int
    caches_apart: bool = False


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """What a costed request asks for."""

    shape: RequestShape
    class_name: str
    stream: bool


def parse_body(body: bytes, limits: InputLimits) -> dict[str, Any]:
    """The JSON object of a body.

    Raises:
        RequestRefusedError: 400: it is none, or takes too long to read.
    """
    _check_structure(body, limits)
    return _parse_json(body, limits.max_depth)


def check_tokenized(body: bytes, limits: InputLimits) -> None:
    """Look at a body that is only to be tokenized, or turned into text.

    Raises:
        RequestRefusedError: 400: it is no JSON object, or takes too long to read.
    """
    check_messages("messages", parse_body(body, limits).get("messages"))


def read_request(
    path: str,
    data: dict[str, Any],
    limits: InputLimits,
    class_header: bytes | None,
    cached_tokens: int = 0,
) -> ParsedRequest:
    """What a costed request asks for.

    Args:
        path: the API's.
        data: the body.
        limits: what may be asked for.
        class_header: the client's `CLASS_HEADER`.
        cached_tokens: tokens of its prompt that are probably in the prefix cache.

    Raises:
        RequestRefusedError: 400 with the field that is wrong.
    """
    shape = _shape(path, data, limits, cached_tokens)
    _check_fits(shape, limits)
    return ParsedRequest(shape, _class_of(data, class_header), data.get("stream") is True)


def _check_structure(body: bytes, limits: InputLimits) -> None:
    """Refuse what would take the event loop's time to parse, and says little.

    A body of 4 MiB that is nothing but `{},` takes a second, in which no stream of this replica
    goes on; as text, it takes 20 ms. What stands in strings does not count, so code may be sent.
    """
    if len(body) <= _SMALL:
        return
    if body.count(b"{") + body.count(b"[") <= _MOST_PARTS and body.count(b",") <= _MOST_PARTS:
        return
    strings = (body.count(b'"') - body.count(b'\\"')) // 2
    outside = body if strings > _MOST_PARTS else _STRING.sub(b"", body)
    parts = max(outside.count(b"{") + outside.count(b"["), strings)
    if parts > _MOST_PARTS:
        message = f"The body has more than {_MOST_PARTS} objects, arrays or strings."
        raise RequestRefusedError(400, message, "too_complex")
    values, most = outside.count(b","), _MOST_PARTS + limits.context_tokens * limits.max_samples
    if values > most:
        message = f"The body has {values} values; at most {most} can make prompts here."
        raise RequestRefusedError(400, message, "too_complex")


def _parse_json(body: bytes, max_depth: int) -> dict[str, Any]:
    try:
        data = loads(body)
    except UnicodeDecodeError as error:
        raise RequestRefusedError(
            400, f"The body is not valid UTF-8: {error.reason} at byte {error.start}.", "bad_utf8"
        ) from error
    except RecursionError as error:
        raise _too_deep(max_depth) from error
    except ValueError as error:
        raise RequestRefusedError(400, f"The body is not valid JSON: {error}.", "bad_json") from (
            error
        )
    if not isinstance(data, dict):
        raise RequestRefusedError(400, "The body must be a JSON object.", "bad_json")
    if _deeper_than(data, max_depth):
        raise _too_deep(max_depth)
    return data


def _too_deep(max_depth: int) -> RequestRefusedError:
    return RequestRefusedError(
        400, f"The body is nested more than {max_depth} levels deep.", "too_deep"
    )


def _deeper_than(value: Any, limit: int) -> bool:
    """Whether JSON is nested deeper than `limit` levels; never recurses."""
    level = [value]
    for _ in range(limit):
        below: list[Any] = []
        for item in level:
            values = item.values() if isinstance(item, dict) else item
            if not _NESTING.isdisjoint(map(type, values)):  # a million token ids pass fast
                below += [inner for inner in values if type(inner) in _NESTING]
        if not below:
            return False
        level = below
    return True


def _shape(
    path: str, data: dict[str, Any], limits: InputLimits, cached_tokens: int
) -> RequestShape:
    if data.get("background") is True:
        raise RequestRefusedError(
            400, "background is not supported: wait for the answer.", "unsupported", "background"
        )
    if data.get("use_beam_search"):
        raise RequestRefusedError(
            400,
            "use_beam_search is not supported: vLLM computes the prompt again for each token of "
            "each beam.",
            "unsupported",
            "use_beam_search",
        )
    check_fields(data, caches_apart=limits.caches_apart)
    most = limits.max_output_tokens or limits.context_tokens
    max_tokens = _first_count(data, LIMITS_OF[path], limits)
    if path == "/v1/completions":
        text, ids, prompts = _prompts(data.get("prompt"))
        if max_tokens is None:
            max_tokens = min(_COMPLETIONS_DEFAULT_TOKENS, most)
    else:
        text, ids, prompts = _conversation(path, data), 0, 1
    check_prompt_logprobs(data, text, ids)
    truncated_to = _truncated_to(path, data, limits.context_tokens, max_tokens)
    if max_tokens is None:
        max_tokens = limits.max_output_tokens
    least = _least(path, data, max_tokens or most)
    samples = _samples(data, prompts, limits) if path in _SAMPLED else 1
    return RequestShape(
        text,
        ids,
        prompts,
        samples,
        max_tokens,
        cached_tokens=cached_tokens,
        least=least,
        truncated_to=truncated_to,
        reads_cache=_reads_cache(data),
    )


def _truncated_to(
    path: str, data: dict[str, Any], context_tokens: int, max_tokens: int | None
) -> int | None:
    """Tokens to which vLLM cuts each prompt, as the client wants it; None: it cuts none."""
    most = None
    if path in _SAMPLED:
        most = _whole(data, "truncate_prompt_tokens")
    elif path == "/v1/responses" and data.get("truncation") not in (None, "disabled"):
        most = _AS_FITS
    if most is not None and most < 0:
        most = context_tokens - (max_tokens or 0)
    return None if most is None else max(most, 1)


def _reads_cache(data: dict[str, Any]) -> bool:
    """Whether vLLM may take prompts from its cache: not where their log probabilities are asked."""
    if data.get("prompt_logprobs") is not None:
        return False
    if not data.get("echo"):
        return True
    # With "echo" a completion's are those of its "logprobs"; a chat's are always asked for.
    return "messages" not in data and data.get("logprobs") is None


def _first_count(data: dict[str, Any], fields: tuple[str, ...], limits: InputLimits) -> int | None:
    counts = [_count(data, field, limits) for field in fields]
    return next((count for count in counts if count is not None), None)


def _whole(data: dict[str, Any], field: str) -> int | None:
    """A whole number; None when absent or null."""
    value = data.get(field)
    if value is not None and type(value) is not int:
        message = f"{field} must be a whole number, and is {json.dumps(value)[:_SHOWN]}."
        raise RequestRefusedError(400, message, "invalid_type", field)
    return value


def _count(data: dict[str, Any], field: str, limits: InputLimits) -> int | None:
    """A limit on output tokens, checked; None when absent."""
    value = _whole(data, field)
    if value is None:
        return None
    most = limits.max_output_tokens or limits.context_tokens
    if value < 1:
        raise RequestRefusedError(
            400, f"{field} must be at least 1, and is {value}.", "out_of_range", field
        )
    if value > most:
        raise RequestRefusedError(
            400,
            f"{field} is {value}; at most {most} tokens can be asked for here.",
            "out_of_range",
            field,
        )
    return value


def _least(path: str, data: dict[str, Any], most: int) -> int:
    """Tokens that no answer ends before, of the `most` that it may have."""
    least = _whole(data, "min_tokens") or 0
    if least > most:
        raise RequestRefusedError(
            400,
            f"min_tokens is {least}; the answer has at most {most} tokens.",
            "out_of_range",
            "min_tokens",
        )
    if data.get("ignore_eos") and path in _ENDLESS:  # or "yes", which vLLM takes for true
        return most
    return max(least, 0) if path in _SAMPLED else 0


def _samples(data: dict[str, Any], prompts: int, limits: InputLimits) -> int:
    value = _whole(data, "n")
    samples = 1 if value is None else value
    if samples < 1:
        raise RequestRefusedError(
            400, f"n must be at least 1, and is {samples}.", "out_of_range", "n"
        )
    if samples * prompts > limits.max_samples:
        of_prompts = f" for each of {prompts} prompts" if prompts > 1 else ""
        raise RequestRefusedError(
            400,
            f"{samples} answers{of_prompts} are asked for; at most {limits.max_samples} answers "
            "can be asked for in one request.",
            "out_of_range",
            "n" if samples > 1 else "prompt",
        )
    return samples


def _prompts(prompt: Any) -> tuple[int, int, int]:
    """(bytes of text, token ids, prompts) of a completions `prompt`."""
    prompts = prompts_in(prompt)
    text = sum(_utf8(p) for p in prompts if isinstance(p, str))
    ids = sum(len(p) for p in prompts if isinstance(p, list))
    return text, ids, len(prompts)


def _conversation(path: str, data: dict[str, Any]) -> int:
    """Bytes of everything that a chat template puts into the prompt."""
    size = 0
    for field in _MESSAGES_OF[path]:
        size += _text(data.get(field))
    for field in _DUMPED_OF_ALL:
        if data.get(field):
            size += len(json.dumps(data[field], ensure_ascii=False))
    return size


def _text(value: Any) -> int:
    """Bytes of text in a message, a list of messages, or a list of content parts.

    Whatever a message's keys are: which of them a template prints is not known here.
    """
    if isinstance(value, str):
        return _utf8(value)
    if isinstance(value, list):
        return sum([_text(item) for item in value])
    if not isinstance(value, dict):
        return 0
    content = value.get("content")
    role = value.get("role")
    is_usual = isinstance(role, str) and len(role) <= _USUAL_ROLE
    if is_usual and isinstance(content, str) and len(value) == 2:  # as most messages are
        return _BYTES_PER_MESSAGE + _utf8(content)
    if is_media(value):
        return MEDIA_BYTES
    size = _BYTES_PER_MESSAGE if is_usual else 0
    for key, inner in value.items():
        if key in DUMPED_FIELDS and isinstance(inner, (dict, list)):
            size += len(json.dumps(inner, ensure_ascii=False))
        elif key not in _SHORT_FIELDS or not _is_usual_word(inner):
            size += _text(inner)
    return size


def _is_usual_word(value: Any) -> bool:
    """Whether a field that is a word is no longer than words are."""
    return isinstance(value, str) and len(value) <= _USUAL_ROLE


def _utf8(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _check_fits(shape: RequestShape, limits: InputLimits) -> None:
    """Refuse what is longer than the context however well it is tokenized, and is not cut."""
    if shape.truncated_to is not None:
        # All of it is tokenized first, in the thread through which every prompt goes.
        most = TEXT_PER_TOKEN * limits.context_tokens * shape.prompts
        if shape.prompt_bytes > most:
            message = f"The prompt has {shape.prompt_bytes} bytes; at most {most} are cut here."
            raise RequestRefusedError(400, message, "context_length_exceeded", "prompt")
        return
    least = shape.prompt_ids + shape.prompt_bytes // max(limits.longest_token, 1)
    if least <= limits.context_tokens * shape.prompts:
        return
    raise RequestRefusedError(
        400,
        f"The prompt has at least {least} tokens; this model's context holds "
        f"{limits.context_tokens}.",
        "context_length_exceeded",
        "prompt",
    )


def _class_of(data: dict[str, Any], class_header: bytes | None) -> str:
    """The class that the header names, in any case; without one, batch by OpenAI's word for it."""
    if class_header is None:
        return BATCH if data.get("service_tier") == "flex" else INTERACTIVE
    named = class_header.decode("latin-1").strip().lower()
    if named in (INTERACTIVE, BATCH):
        return named
    name, shown = CLASS_HEADER.decode(), named[:_SHOWN]
    raise RequestRefusedError(
        400, f"{name} is {shown!r}; write {INTERACTIVE} or {BATCH}.", "unknown_class", name
    )
