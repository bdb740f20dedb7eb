"""Replicas as Serve shows them to a request router, without Serve."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from forebay.observability import catalogue


@dataclass(frozen=True)
class FakeReplicaId:
    unique_id: str

    def to_full_id_str(self) -> str:
        return f"app#chat#{self.unique_id}"


@dataclass
class FakeReplica:
    """A replica with its last publication; `publish` replaces it, as Serve does."""

    name: str
    routing_stats: dict[str, Any] = field(default_factory=dict)
    backend_http_endpoint: tuple[str, int] | None = ("10.0.0.1", 9_000)

    @property
    def replica_id(self) -> FakeReplicaId:
        return FakeReplicaId(self.name)

    def publish(self, sequence: int, **changes: Any) -> FakeReplica:
        self.routing_stats = {**published(sequence), **changes}
        return self


def published(sequence: int) -> dict[str, Any]:
    """What an idle replica publishes (see `ForebayServer.record_routing_stats`)."""
    return {
        "sequence": sequence,
        "posts": 0,
        "wait_s": 0.0,
        "prefill_rate": 10_000.0,
        "overhead_s": 0.0,
        "draining": False,
        "bytes_per_token": 4.0,
        "kv_tokens": 100_000,
        catalogue.PROMPT_TOKENS.name: 0.0,
        catalogue.CACHED_TOKENS.name: 0.0,
    }
