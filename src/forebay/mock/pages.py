"""Everything that is asked but tokens: models, health, metrics, tokenize."""

from __future__ import annotations

from dataclasses import dataclass

from forebay.mock.mock_events import error_response, json_response
from forebay.mock.mock_requests import BadRequestError, Request, read_tokens
from forebay.mock.spec import MockSpec
from forebay.wire import response

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# What a mock lacks are slots: its KV cache stays below what would count as full.
_KV_WITH_ALL_SLOTS = 0.5
_PAGES = {
    "/health": "GET",
    "/metrics": "GET",
    "/v1/models": "GET",
    "/tokenize": "POST",
    "/v1/completions": "POST",
    "/v1/chat/completions": "POST",
}


@dataclass(frozen=True, slots=True)
class Pulse:
    """The server at one moment: counts since its start, and what is on its way."""

    requests: int
    prompt_tokens: int
    tokens: int
    running: int
    queued: int


def page(request: Request, spec: MockSpec, pulse: Pulse) -> bytes:
    """The response to a request that is not one for tokens."""
    method = _PAGES.get(request.path)
    if method is None:
        known = ", ".join(_PAGES)
        return error_response(404, f"no such path here: {request.path}; there are {known}")
    if request.method != method:
        return error_response(405, f"{request.path} takes {method}", [("allow", method)])
    if request.path == "/health":
        return response(200, b"")
    if request.path == "/metrics":
        return response(200, _metrics(spec, pulse).encode(), _METRICS_TYPE)
    if request.path == "/v1/models":
        return json_response(_models(spec))
    return _tokenize(request, spec)


def _models(spec: MockSpec) -> dict[str, object]:
    """OpenAI's list, with vLLM's own field for the context's length."""
    model = {
        "id": spec.model,
        "object": "model",
        "created": 0,
        "owned_by": "forebay",
        "root": spec.model,
        "parent": None,
        "max_model_len": spec.max_model_len,
    }
    return {"object": "list", "data": [model]}


def _metrics(spec: MockSpec, pulse: Pulse) -> str:
    """Prometheus text under vLLM's names; the KV cache fills with the slots, and never runs out."""
    share = _KV_WITH_ALL_SLOTS * pulse.running / spec.slots if spec.slots else 0.0
    rows = (
        ("num_requests_running", "gauge", "Requests that are being answered.", pulse.running),
        ("num_requests_waiting", "gauge", "Requests that wait for a slot.", pulse.queued),
        ("kv_cache_usage_perc", "gauge", "Share of the KV cache in use, 0 to 1.", share),
        ("prompt_tokens_total", "counter", "Prompt tokens taken up.", pulse.prompt_tokens),
        ("generation_tokens_total", "counter", "Tokens written.", pulse.tokens),
    )
    name = spec.model.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    labels = f'{{engine="0",model_name="{name}"}}'
    return "".join(
        f"# HELP vllm:{metric} {words}\n# TYPE vllm:{metric} {kind}\n"
        f"vllm:{metric}{labels} {value}\n"
        for metric, kind, words, value in rows
    )


def _tokenize(request: Request, spec: MockSpec) -> bytes:
    try:
        tokens = read_tokens(request.body)
    except BadRequestError as error:
        return error_response(400, str(error), param=error.param)
    return json_response(
        {
            "count": len(tokens),
            "max_model_len": spec.max_model_len,
            "tokens": tokens,
            "token_strs": None,
        }
    )
