"""What the demo's page is drawn from: plain values, gathered by whoever ran the demo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from forebay.measure import Outcome, Summary, Window


@dataclass(frozen=True, slots=True)
class DemoStage:
    """One stage of constant load.

    Attributes:
        factor: offered load as a multiple of the measured capacity.
        start_s, end_s: seconds from the start of the run.
        summary: what was measured of the requests offered in it.
    """

    factor: float
    start_s: float
    end_s: float
    summary: Summary


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: when it was meant to be sent (s), its TTFT (s), what became of it."""

    t: float
    ttft: float | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class ServerPoint:
    """The server's own word at one second ``t``.

    Attributes:
        t: seconds from the start of the run.
        queued_tokens: prompt tokens admitted and not yet computed.
        running: requests past their first token.
        tokens_per_s: output tokens.
    """

    t: float
    queued_tokens: float | None = None
    running: float | None = None
    tokens_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class ClientNotes:
    """How far the client may be believed.

    Attributes:
        lag_p99_s: its own lateness, seconds.
        realtime: whether real-time scheduling was granted.
        realtime_reason: why not.
        valid: the verdict on the run.
        validity_reason: its reason.
    """

    lag_p99_s: float | None
    realtime: bool
    realtime_reason: str = ""
    valid: bool = True
    validity_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoData:
    """Everything that the page shows.

    Attributes:
        title: of the page.
        model: name of the model.
        hardware: what it ran on, in words.
        workload: what a request was, in words.
        slo_ttft_s: TTFT that a good request meets, seconds.
        capacity_rps: requests/s that were measured as sustainable.
        stages: in order of time.
        windows: per-second series, as the client saw them.
        samples: one per request.
        server: the server's series; may be empty.
        client: notes on the client.
        chat: a question and the model's answer, when one was asked.
        footer: versions, date, command: a line of text.
    """

    title: str
    model: str
    hardware: str
    workload: str
    slo_ttft_s: float
    capacity_rps: float
    stages: Sequence[DemoStage]
    windows: Sequence[Window]
    samples: Sequence[Sample]
    client: ClientNotes
    server: Sequence[ServerPoint] = field(default_factory=tuple)
    chat: tuple[str, str] | None = None
    footer: str = ""

    @property
    def peak(self) -> DemoStage | None:
        """The stage with the highest offered load."""
        return max(self.stages, key=lambda stage: stage.factor, default=None)
