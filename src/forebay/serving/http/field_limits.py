"""Fields of vLLM's API by which one client could harm everybody: refused, or bounded.

vLLM judges whether it can serve a request, and not what that costs others. What is here was found
by reading vLLM 0.29 (record 0035 has what each of them does); each refusal is a 400 that names the
field, before anything is priced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from forebay.serving.http.errors import RequestRefusedError

# A GPU's sampler has buffers of so many (vllm/v1/worker/gpu/sample/logit_bias.py), and its process
# ends where they run over. Ends of the model's own are added to `stop_token_ids`.
_BUFFERS = {"allowed_token_ids": 1_024, "logit_bias": 1_024, "stop_token_ids": 100}
# Each that vLLM's models refuse makes a dozen errors, on the event loop.
_LISTS = {"tools": 1_024, "functions": 1_024, "documents": 1_024}
_MOST_MESSAGES, _MOST_PARTS = 2_048, 1_024  # the latter of all messages together
# Encoded twice on the event loop, and into a buffer of 1,024 tokens.
_MOST_BAD_WORDS, _BAD_WORDS_CHARACTERS = 64, 1_000
_GRAMMAR_CHARACTERS = 64 * 1024  # looked through and compiled on the event loop
_NAME_CHARACTERS = 128  # repeated with every token
_MOST_PATTERN = 64  # tokens: looked for in Python, in the answer so far, at each step
# Log probabilities of a prompt's tokens are turned into text one by one, on the event loop.
_PROMPT_LOGPROBS = 40_000
_BYTES_PER_TOKEN = 4


def check_fields(data: dict[str, Any], *, caches_apart: bool) -> None:
    """Refuse what vLLM would take, and should not.

    Args:
        data: the body of a costed request.
        caches_apart: tenants do not share what the engine has computed.

    Raises:
        RequestRefusedError: 400 with the field.
    """
    for field in data.keys() & _CHECKS.keys():
        if data[field] is not None:
            _CHECKS[field](field, data[field])
    for field in ("messages", "input"):
        if field in data:
            check_messages(field, data[field], caches_apart=caches_apart)


def check_messages(field: str, messages: Any, *, caches_apart: bool = False) -> None:
    """Refuse messages that are none at the first, where vLLM would tell a dozen faults of each.

    Raises:
        RequestRefusedError: 400 with the field.
    """
    if not isinstance(messages, list):
        return
    if len(messages) > _MOST_MESSAGES:
        _refuse(field, f"has {len(messages)} messages; at most {_MOST_MESSAGES} can be sent")
    parts = 0
    for number, one in enumerate(messages):
        if isinstance(one, str):  # of an `input`
            continue
        if not isinstance(one, dict) or not (
            isinstance(one.get("role"), str) or isinstance(one.get("type"), str)
        ):
            _refuse(field, f"number {number} is no message", "invalid_type")
        content = one.get("content")
        if isinstance(content, list):
            parts += len(content)
            if parts > _MOST_PARTS:
                _refuse(field, f"has more than {_MOST_PARTS} parts of content")
            _check_parts(f"{field}: number {number}", content, caches_apart)


def _check_parts(where: str, parts: list[Any], caches_apart: bool) -> None:
    for part in parts:
        if isinstance(part, str):
            continue
        if not isinstance(part, dict) or not part:
            _refuse(where, "has a part that is none", "invalid_type")
        # The name is the key of a cache that all tenants share, and needs no image with it.
        if caches_apart and part.get("uuid") is not None:
            _refuse(where, "uuid is not supported where tenants' caches are apart", "unsupported")


def check_prompt_logprobs(data: dict[str, Any], prompt_bytes: int, prompt_ids: int) -> None:
    """Refuse log probabilities of more prompt tokens than streams can wait for.

    Raises:
        RequestRefusedError: 400 with the field.
    """
    field, each = "prompt_logprobs", data.get("prompt_logprobs")
    if each is None and data.get("echo"):
        field, each = "logprobs", data.get("logprobs")
    if type(each) is not int or each < 0:
        return
    tokens = prompt_ids + prompt_bytes // _BYTES_PER_TOKEN
    if tokens * (each + 1) > _PROMPT_LOGPROBS:
        most = _PROMPT_LOGPROBS // (each + 1)
        _refuse(field, f"{each} for each of some {tokens} tokens; at most {most} tokens have them")


def _at_most(most: int) -> Callable[[str, Any], None]:
    def check(field: str, value: Any) -> None:
        if isinstance(value, (list, dict)) and len(value) > most:
            _refuse(field, f"has {len(value)} entries; at most {most} can be asked for")

    return check


def _is_none_of_clients(field: str, _: Any) -> None:
    # Of a disaggregated engine's own talk: a prompt in place of the messages, and hosts to ask.
    _refuse(field, "is not supported: engines do not talk through clients here", "unsupported")


def _check_bad_words(field: str, value: Any) -> None:
    _at_most(_MOST_BAD_WORDS)(field, value)
    if _characters(value) > _BAD_WORDS_CHARACTERS:
        _refuse(field, f"has more than {_BAD_WORDS_CHARACTERS} characters")


def _check_grammar(field: str, value: Any) -> None:
    if isinstance(value, dict) and _characters(value) > _GRAMMAR_CHARACTERS:
        _refuse(field, f"has more than {_GRAMMAR_CHARACTERS} characters")


def _check_name(field: str, value: Any) -> None:
    if isinstance(value, str) and len(value) > _NAME_CHARACTERS:
        _refuse(field, f"has more than {_NAME_CHARACTERS} characters")


def _check_repetition(field: str, value: Any) -> None:
    size = value.get("max_pattern_size") if isinstance(value, dict) else None
    if isinstance(size, (int, float)) and size > _MOST_PATTERN:
        _refuse(field, f"has a max_pattern_size above {_MOST_PATTERN}")


_CHECKS: Mapping[str, Callable[[str, Any], None]] = {
    **{field: _at_most(most) for field, most in {**_BUFFERS, **_LISTS}.items()},
    **dict.fromkeys(("kv_transfer_params", "ec_transfer_params"), _is_none_of_clients),
    **dict.fromkeys(("structured_outputs", "response_format", "text"), _check_grammar),
    **dict.fromkeys(("request_id", "session_id"), _check_name),
    "bad_words": _check_bad_words,
    "repetition_detection": _check_repetition,
}


def _refuse(where: str, why: str, code: str = "out_of_range") -> NoReturn:
    """`where` begins with the field's name."""
    raise RequestRefusedError(400, f"{where}: {why}.", code, where.partition(":")[0])


def _characters(value: Any) -> int:
    """Of all text in a value, keys included."""
    return sum(map(len, _texts(value)))


def _texts(value: Any) -> Iterator[str]:
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            left += one
            left += one.values()
        elif isinstance(one, list):
            left += one
