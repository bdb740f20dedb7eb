"""The `slo` and `admission` sections: what is promised, and whom the gate therefore lets in."""

from typing import Any, Literal

from pydantic import Field, field_validator

from forebay.spec.files import Seconds, Share, Strict

ClassName = Literal["interactive", "batch"]


class SloSpec(Strict):
    """What users are promised. Admission, scaling, load tests and alerts all aim at these."""

    ttft_p99: Seconds = Field(
        default=1.0,
        gt=0,
        description="99th percentile of the time from a request's intended send time to its "
        "first token. Default 1s: up to there a person's flow of thought stays unbroken.",
    )
    tpot_p99: Seconds = Field(
        default=0.2,
        gt=0,
        description="99th percentile of the time per output token after the first. Default 200ms: "
        "5 tokens a second, about as fast as people read.",
    )


class ClassSpec(Strict):
    """One class of requests: its share of a contended engine and how long it may wait."""

    weight: float = Field(
        default=1.0,
        ge=0.001,
        le=1000,
        description="Share of tokens among requests that wait, relative to the other class, 0.001 "
        "to 1000; batch also leaves one slot in eight free (and see `batch_stretch`). Default 8 "
        "for interactive, 1 for batch.",
    )
    ttft: Seconds | None = Field(
        default=None,
        gt=0,
        examples=["800ms"],
        description="TTFT budget: a request is admitted while its first token is predicted within "
        "it, less `margin`; one of batch within three quarters of that, since interactive requests "
        "may yet come that go before it. A prompt that takes most of it by itself may have longer, "
        "up to `deadline`. Default for interactive: `slo.ttft_p99`, and never above; for batch: "
        "30s, since nobody watches it.",
    )


_CLASSES: dict[object, dict[str, Any]] = {
    "interactive": {"weight": 8.0, "ttft": None},
    "batch": {"weight": 1.0, "ttft": "30s"},
}


class AdmissionSpec(Strict):
    """When the gate admits a request, and when it sheds it."""

    classes: dict[ClassName, ClassSpec] = Field(
        default_factory=dict,
        validate_default=True,
        description="The classes `interactive` and `batch`; what is not written keeps its default.",
    )
    max_queued_tokens: int | None = Field(
        default=None,
        gt=0,
        examples=[100_000],
        description="Hard bound on prompt tokens waiting in one replica, whatever is predicted. "
        "Default: the measured prefill rate times the largest TTFT budget.",
    )
    deadline: Seconds | None = Field(
        default=None,
        gt=0,
        examples=["60s"],
        description="Time after which a request without a first token is aborted in the engine, "
        "of either class: at least the longest TTFT budget. Very long prompts that give way to "
        "others are let in by it: a later one serves more of these. Default: twice the TTFT budget "
        "of its class, past which its user has gone.",
    )
    margin: Share = Field(
        default=0.2,
        le=0.9,
        description="Share of the TTFT budget kept for what the gate cannot see: proxy, router, "
        "network. Default 20%: with both cores of a small machine busy, a round trip through "
        "proxy, router and replica took 0.14s at p99 of a 1s budget. How far predictions err is "
        "learned, and kept besides.",
    )
    batch_stretch: float = Field(
        default=1.7,
        ge=1,
        description="How much longer the engine's steps may become, on average, by what gives way "
        "in it (batch, and very long prompts) while others come, as a factor; what does not fit "
        "waits at the gate. 1 lets one batch sequence in at a time. Steps that compute another's "
        "prompt compute nothing of it, but for one in nine, so this is felt by who waits for the "
        "step before, and in the time per token. (Where `engine_args` has a scheduler of its own "
        "or a `long_prefill_token_threshold`, nothing gives way within a step.) Default "
        "1.7: of what interactive requests leave, batch uses 57 to 91%, and their "
        "p95 TTFT is 1.2 to 1.5 times what it is without batch; docs/admission.md has what other "
        "values give.",
    )
    max_n: int = Field(
        default=16,
        ge=1,
        description="Most completions (`n`, times the prompts of a list) that one request may ask "
        "for. Default 16: more is a batch job in disguise.",
    )
    max_output_tokens: int | None = Field(
        default=None,
        gt=0,
        examples=[2048],
        description="Most output tokens of an answer: a request that asks for more is refused, and "
        "one without a limit gets this one. Default: what the context window leaves.",
    )
    default_output_tokens: int = Field(
        default=256,
        ge=1,
        description="Expected output tokens of a request before any were seen. Default 256: about "
        "the length of a chat answer; the gate replaces it by what it learns.",
    )

    cache_isolation: Literal["shared", "tenant"] | None = Field(
        default=None,
        examples=["shared"],
        description="Who shares prefixes in the cache: everybody, or each tenant (or its "
        "`cache_group`) with itself. Default: `tenant` where there are tenants, since a hit is "
        "faster and so tells one what another has sent; `shared` where there are none.",
    )

    @field_validator("classes", mode="before")
    @classmethod
    def _fill_classes(cls, given: object) -> object:
        """Each class keeps its own defaults for what the file leaves out."""
        if not isinstance(given, dict):
            return given
        filled: dict[object, object] = {**_CLASSES}
        for name, fields in given.items():
            own = _CLASSES.get(name)
            filled[name] = {**own, **fields} if own and isinstance(fields, dict) else fields
        return filled
