"""Every route of vLLM's app: costed by the gate, free, or closed.

Everything that decides what a path may do lives here. A path that is not listed is closed, so a
route that a new vLLM mounts is closed until someone decides what it costs; a test walks the real
app's routes and fails on one that is not listed on either side.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class Access(Enum):
    """What the gate does with a route."""

    COSTED = "costed"  # reaches the engine: priced and admitted or shed
    FREE = "free"  # never reaches the engine: body bound only
    CLOSED = "closed"  # answered 404


COSTED: frozenset[str] = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
    }
)

FREE: frozenset[str] = frozenset(
    {
        "/health",
        "/ping",
        "/version",
        "/v1/models",
        "/tokenize",
        "/detokenize",
    }
)

_MODEL_PREFIX = "/v1/models/"

# Mounted by vLLM 0.29 and closed here, each with its reason; the test of routes reads this.
CLOSED: dict[str, str] = {
    "/v1/chat/completions/batch": "one body asks for many chats; send them one by one",
    "/v1/chat/completions/render": "shows the rendered prompt: a debugging aid",
    "/v1/completions/render": "shows the rendered prompt: a debugging aid",
    "/v1/responses/{response_id}": "stored responses live in one replica's memory",
    "/v1/responses/{response_id}/cancel": "stored responses live in one replica's memory",
    "/v1/messages/count_tokens": "counted by /tokenize",
    "/inference/v1/generate": "raw token interface between disaggregated engines",
    "/generate_token_ids": "raw token interface",
    "/invocations": "SageMaker's catch-all for every other route",
    "/metrics": "Forebay's metrics come from the metrics port, for all replicas",
    "/load": "the routers have it from the replica's own stats",
    "/docs": "documentation pages",
    "/docs/oauth2-redirect": "documentation pages",
    "/redoc": "documentation pages",
    "/openapi.json": "documentation pages",
    "/tokenizer_info": "shows the chat template and tokenizer files",
    "/scale_elastic_ep": "changes the engine",
    "/is_scaling_elastic_ep": "changes the engine",
    "/v1/load_lora_adapter": "changes the engine",
    "/v1/unload_lora_adapter": "changes the engine",
    "/start_profile": "changes the engine",
    "/stop_profile": "changes the engine",
    "/abort_requests": "would end other clients' requests",
}


def access(path: str) -> Access:
    """What the gate does with a request for `path`."""
    if path in COSTED:
        return Access.COSTED
    if path in FREE or (path.startswith(_MODEL_PREFIX) and len(path) > len(_MODEL_PREFIX)):
        return Access.FREE
    return Access.CLOSED


def undecided(paths: Iterable[str]) -> list[str]:
    """Mounted paths that are neither costed, free, nor closed for a stated reason."""
    return sorted(path for path in paths if access(path) is Access.CLOSED and path not in CLOSED)
