"""The `scaling` and `server` sections: how many replicas, and where they listen."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from forebay.spec.files import MIB, Bytes, Rate, Seconds, Share, Strict, refusal
from forebay.spec.service.floor_spec import FloorSpec


class CapacitySpec(Strict):
    """What one replica sustains within its promises, where that is known better than learned."""

    prefill: Rate = Field(
        gt=0, description="Prompt tokens/s of a replica that does nothing else, such as 40000/s."
    )
    decode: Rate = Field(
        gt=0, description="Answer tokens/s of a replica that does nothing else, such as 3000/s."
    )


class ScalingSpec(Strict):
    """How many replicas there may be."""

    min: int = Field(
        default=1,
        ge=0,
        description="Fewest replicas. Default 1: a first request never waits for a start. With 0 "
        "the fleet goes away when nothing was asked for `stable`; who then asks gets 503 with the "
        "measured start as Retry-After, and a replica is started.",
    )
    max: int = Field(
        default=1,
        ge=1,
        validate_default=True,
        description="Most replicas. Default 1: nothing is spent that was not asked for.",
    )

    headroom: Share = Field(
        default=0.2,
        lt=1,
        description="Share of every replica that is left free for what comes at random. Default "
        "20%: traffic of a few hundred requests varies by some 10% from one half minute to the "
        "next.",
    )
    stable: Seconds = Field(
        default=300.0,
        gt=0,
        description="Replicas go when nothing in so long has asked for them; a single one of four "
        "and more, in twice as long. Default 5m, as Kubernetes' own autoscaler: starting one again "
        "costs more than keeping it.",
    )
    cold_start: Seconds = Field(
        default=60.0,
        gt=0,
        description="How long a replica takes to start, until replicas have shown it. Default 1m: "
        "a small model whose weights are on local disk.",
    )

    drain: Seconds = Field(
        default=600.0,
        ge=0,
        description="Longest that a replica which is no longer needed goes on with the streams it "
        "has; it takes nothing new. Default 10m: longer than nearly every answer, and it leaves "
        "as soon as the last has ended.",
    )
    capacity: CapacitySpec | None = Field(
        default=None,
        examples=[{"prefill": "40000/s", "decode": "3000/s"}],
        description="What one replica sustains within its promises. Default: what replicas learn "
        "of their engine while they serve, by the promised `slo.tpot_p99`; how many tokens the KV "
        "cache holds they know in any case. Write what the engine sustains before it is slowed: "
        "`model.slowed` divides both.",
    )
    schedule: list[FloorSpec] = Field(
        default_factory=list,
        examples=[[{"min": 4, "cron": "30 8 * * mon-fri", "for": "10h"}]],
        description="Times at which there are more replicas, whatever the demand. Default: none.",
    )

    @field_validator("max")
    @classmethod
    def _max_is_not_below_min(cls, most: int, info: ValidationInfo) -> int:
        fewest = info.data.get("min", 1)
        if most < fewest:
            raise refusal(f"{most} is below scaling.min, {fewest}", f"write at least {fewest}")
        return most

    @property
    def stays_at_one(self) -> bool:
        """Whether there is one replica and never another, so that nothing chooses among them."""
        return self.min == self.max == 1


_HOSTS = ("127.0.0.1", "localhost", "0.0.0.0")


class ServerSpec(Strict):
    """The HTTP server and the cluster it runs on."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on: `127.0.0.1`, or `0.0.0.0` for all, which a cluster of "
        "several nodes needs. No other one works: HAProxy reaches the replicas of its own node by "
        "127.0.0.1 and others by their nodes' addresses. Default 127.0.0.1: only this machine.",
    )
    port: int = Field(
        default=8000,
        ge=1,
        le=65535,
        description="Port of the API. Default 8000, as vLLM's own server.",
    )
    metrics_port: int = Field(
        default=8081,
        ge=1,
        le=65535,
        validate_default=True,
        description="Port where Prometheus finds the metrics. It listens on every address, "
        "whatever `host` says, and asks for no key: close it to strangers. Default 8081: beside "
        "the API, and free of Ray's own 8265 and 8080.",
    )
    routers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that choose a replica for each request, on each node that clients "
        "connect to (`proxies`). Default 1: a choice takes a fraction of a millisecond, and each "
        "process 100 MB of memory or more; write 2 where cores are spare, so that requests are "
        "routed while one of them restarts. A fleet that stays at one replica has none.",
    )
    proxies: Literal["every-node", "head"] = Field(
        default="every-node",
        description="Nodes of the cluster that clients can connect to: `every-node` that has a "
        "replica, or the `head` alone. Default every-node: behind a load balancer, no single node "
        "carries all streams; write head where clients know one address, so that nothing but the "
        "replicas is lost with any other node, or where nodes share one machine's ports.",
    )
    max_connections: int = Field(
        default=2400,
        ge=1,
        le=1_000_000,
        description="Most client connections at once on each node; more wait to be accepted. "
        "Default 2400: the proxy takes at most 200 kB for each, and so less than 500 MB.",
    )
    max_body: Bytes = Field(
        default=4 * MIB,
        gt=0,
        description="Largest request body. Default 4MiB: about a million tokens of English, more "
        "than any context window offered here.",
    )
    max_json_depth: int = Field(
        default=64,
        ge=1,
        le=500,
        description="Deepest nesting in a request's JSON. Default 64: room for nested tool "
        "schemas, and far from where a parser's stack ends.",
    )
    drain: Seconds = Field(
        default=30.0,
        ge=0,
        description="Longest wait for running requests, and for clients that still read their "
        "answers, when the server stops (Ctrl-C, SIGTERM). Default 30s: what Kubernetes gives a "
        "pod, which should have some 10s more, to stop.",
    )
    ray_address: str | None = Field(
        default=None,
        min_length=1,
        examples=["auto"],
        description="Address of a running Ray cluster to join, such as `auto` or `10.0.0.5:6379`. "
        "Default: start one on this machine and stop it at the end.",
    )
    start_timeout: Seconds = Field(
        default=600.0,
        gt=0,
        description="Longest wait until the first replica is ready. Default 10m: a 70B model "
        "takes minutes to load.",
    )

    @field_validator("host")
    @classmethod
    def _host_is_one_that_replicas_are_reached_at(cls, host: str) -> str:
        if host in _HOSTS:
            return host
        hint = "write 127.0.0.1 for this machine alone, or 0.0.0.0 for all of its addresses"
        raise refusal(f"HAProxy would not reach replicas that listen on {host}", hint)

    @field_validator("metrics_port")
    @classmethod
    def _ports_differ(cls, port: int, info: ValidationInfo) -> int:
        if port == info.data.get("port"):
            raise refusal(f"{port} is server.port too", "write another port")
        return port
