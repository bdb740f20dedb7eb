"""A look at an endpoint before it is loaded: is it there, which model, how does it count tokens?"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http.client import HTTPException
from typing import Any

from forebay.load.client.direct import open_directly
from forebay.load.plan import COMMON_WORDS, PATHS, Api, Endpoint
from forebay.wire import base_url

_TIMEOUT_S = 10.0
_FEWEST_WORDS = 20  # a smaller vocabulary would repeat itself
# As tokenizers write them: as they are, in bytes made printable (GPT-2), as SentencePiece does.
_SPACES = (" ", "\u0120", "\u2581")
_LINE_BREAKS = ("\n", "\u010a", "<0x0A>")


class EndpointError(RuntimeError):
    """The endpoint cannot be loaded as asked; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeTarget:
    """What the user said of the endpoint; None is to be found out."""

    url: str
    model: str | None = None
    api: Api = "chat"
    exact_output: bool | None = None
    stream: bool = True
    bytes_per_token: float | None = None
    ids: tuple[int, ...] | None = None
    headers: Mapping[str, str] | None = None


def look_at(asked: ProbeTarget) -> Endpoint:
    """Finds out what was not said.

    Raises:
        EndpointError: nobody answers, the key is refused, or the model is unknown.
        ValueError: the URL is none.
    """
    ask = _Asker(base_url(asked.url), asked.headers or {})
    endpoint = Endpoint(
        url=ask.base,
        model=asked.model or _only_model(ask),
        api=asked.api,
        exact_output=asked.exact_output is not False,
        stream=asked.stream,
        bytes_per_token=asked.bytes_per_token or 4.0,
        ids=asked.ids,
    )
    if asked.api == "chat" and asked.bytes_per_token is None:
        endpoint = _with_tokenizer(ask, endpoint)
    return _tried(ask, endpoint, keep_exact=asked.exact_output is True)


class _Asker:
    """Sends single requests."""

    def __init__(self, base: str, headers: Mapping[str, str]) -> None:
        self.base = base
        self._headers = {"Content-Type": "application/json", **headers}

    def get(self, path: str) -> tuple[int, Any]:
        """Status and decoded body (None when it is no JSON)."""
        return self._send(path, None)

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and decoded body (None when it is no JSON)."""
        return self._send(path, json.dumps(body).encode())

    def _send(self, path: str, body: bytes | None) -> tuple[int, Any]:
        request = urllib.request.Request(self.base + path, body, dict(self._headers))
        try:
            return self._answer(request)
        except (OSError, HTTPException) as error:
            why = getattr(error, "reason", None) or error
            raise EndpointError(f"{self.base} does not answer: {why}") from None

    def _answer(self, request: urllib.request.Request) -> tuple[int, Any]:
        try:
            with open_directly(request, _TIMEOUT_S) as answer:
                return answer.status, _decoded(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _decoded(error.read())


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _only_model(ask: _Asker) -> str:
    status, found = ask.get("/v1/models")
    if status in (401, 403):
        raise EndpointError(
            f"{ask.base} refuses the key (HTTP {status}); name the variable that holds one with "
            "--api-key-env"
        )
    try:
        names = [str(model["id"]) for model in found["data"]]
    except (TypeError, KeyError):
        raise EndpointError(
            f"{ask.base}/v1/models lists no models (HTTP {status}); is it an OpenAI-compatible "
            "endpoint? If so, name the model with --model"
        ) from None
    if len(names) != 1:
        raise EndpointError(
            f"{ask.base} has {len(names)} models; choose one with --model: {', '.join(names[:20])}"
        )
    return names[0]


def _with_tokenizer(ask: _Asker, endpoint: Endpoint) -> Endpoint:
    """Words of one token each, and the chat template's own tokens, where the endpoint counts."""
    words = _single_token_words(ask, endpoint.model)
    if len(words) < _FEWEST_WORDS:
        return endpoint
    word = words[0]
    once = _count(ask, endpoint.model, [("user", word)])
    twice = _count(ask, endpoint.model, [("user", word), ("assistant", word), ("user", word)])
    if once is None or twice is None:
        return endpoint
    return replace(
        endpoint,
        words=tuple(words),
        first_overhead=max(0, once - 1),
        turn_overhead=max(0, twice - once - 2),
    )


def _single_token_words(ask: _Asker, model: str) -> list[str]:
    """The common words that are one token each both behind a space and at a message's start."""
    behind = _token_texts(ask, model, " ".join(["a", *COMMON_WORDS]))
    found = {text.strip("".join(_SPACES)) for text in behind if text.startswith(_SPACES)}
    bare = _whole_lines(_token_texts(ask, model, "\n".join(COMMON_WORDS)))
    return [word for word in COMMON_WORDS if word in found & bare]


def _whole_lines(tokens: Sequence[str]) -> set[str]:
    """Lines that are one token each."""
    lines: list[list[str]] = [[]]
    for token in tokens:
        if token in _LINE_BREAKS:
            lines.append([])
        else:
            lines[-1].append(token)
    return {line[0] for line in lines if len(line) == 1}


def _token_texts(ask: _Asker, model: str, text: str) -> list[str]:
    """The text's tokens as the endpoint's tokenizer writes them; none where it does not say."""
    body = {"model": model, "prompt": text, "add_special_tokens": False, "return_token_strs": True}
    status, found = ask.post("/tokenize", body)
    if status != 200 or not isinstance(found, dict):
        return []
    return [str(token) for token in found.get("token_strs") or ()]


def _count(ask: _Asker, model: str, messages: Sequence[tuple[str, str]]) -> int | None:
    body = {
        "model": model,
        "messages": [{"role": role, "content": content} for role, content in messages],
    }
    status, found = ask.post("/tokenize", body)
    count = found.get("count") if status == 200 and isinstance(found, dict) else None
    return count if isinstance(count, int) else None


def _tried(ask: _Asker, endpoint: Endpoint, *, keep_exact: bool) -> Endpoint:
    """The endpoint after one small request; without ``ignore_eos`` where it takes none."""
    status, answer = _one(ask, endpoint)
    if status in (400, 422) and endpoint.exact_output and not keep_exact:
        endpoint = replace(endpoint, exact_output=False)
        status, answer = _one(ask, endpoint)
    if status in (200, 429, 503):  # a busy server refuses; the run will show it
        return endpoint
    said = _message(answer)
    hint = " (name a key's variable with --api-key-env)" if status in (401, 403) else ""
    raise EndpointError(f"{ask.base} refuses a small request with HTTP {status}: {said}{hint}")


def _one(ask: _Asker, endpoint: Endpoint) -> tuple[int, Any]:
    body: dict[str, Any] = {"model": endpoint.model, "max_tokens": 1, "temperature": 0.0}
    if endpoint.exact_output:
        body["ignore_eos"] = True
    if endpoint.api == "chat":
        body["messages"] = [{"role": "user", "content": "Hello"}]
    else:
        body["prompt"] = list((endpoint.ids or (300, 301))[:2])
    return ask.post(PATHS[endpoint.api], body)


def _message(answer: Any) -> str:
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    return str(error)[:300]
