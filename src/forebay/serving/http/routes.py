"""Every route of vLLM's app: costed by the gate, free, in turns for the tokenizer, or closed.

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
    TOKENIZER = "tokenizer"  # runs where every prompt has to pass: one at a time
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
    }
)

TOKENIZER: frozenset[str] = frozenset({"/tokenize", "/detokenize"})

# Answered without a key: load balancers and probes have none.
ANYBODYS: frozenset[str] = frozenset({"/health", "/ping", "/version"})

_MODEL_PREFIX = "/v1/models/"

# Mounted by vLLM 0.29 as Forebay sets it up, and closed here, each with its reason.
CLOSED: dict[str, str] = {
    "/v1/chat/completions/batch": "one body asks for many chats; send them one by one",
    "/v1/chat/completions/render": "shows the rendered prompt: a debugging aid",
    "/v1/completions/render": "shows the rendered prompt: a debugging aid",
    "/v1/messages/render": "shows the rendered prompt: a debugging aid",
    "/v1/chat/completions/derender": "the other half of render",
    "/v1/completions/derender": "the other half of render",
    "/generative_scoring": "scores texts by prompt logprobs: not priced yet",
    "/v1/responses/{response_id}": "stored responses live in one replica's memory",
    "/v1/responses/{response_id}/cancel": "stored responses live in one replica's memory",
    "/v1/messages/count_tokens": "counted by /tokenize",
    "/inference/v1/generate": "raw token interface between disaggregated engines",
    "/invocations": "SageMaker's catch-all for every other route",
    "/metrics": "Forebay's metrics come from the metrics port, for all replicas",
    "/load": "the routers have it from the replica's own stats",
    "/docs": "documentation pages",
    "/docs/oauth2-redirect": "documentation pages",
    "/redoc": "documentation pages",
    "/openapi.json": "documentation pages",
    "/scale_elastic_ep": "changes the engine",
    "/is_scaling_elastic_ep": "changes the engine",
}


def access(path: str) -> Access:
    """What the gate does with a request for `path`."""
    if path in COSTED:
        return Access.COSTED
    if path in FREE or (path.startswith(_MODEL_PREFIX) and len(path) > len(_MODEL_PREFIX)):
        return Access.FREE
    return Access.TOKENIZER if path in TOKENIZER else Access.CLOSED


def undecided(paths: Iterable[str]) -> list[str]:
    """Mounted paths that are neither costed, free, nor closed for a stated reason."""
    return sorted(path for path in paths if access(path) is Access.CLOSED and path not in CLOSED)
