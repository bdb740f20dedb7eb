"""What the report of a load test is drawn from: plain values, gathered by whoever ran it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from forebay.measure import Binding, ClientFacts, FleetSize, RequestRecord, ServerSample, Window
from forebay.workload import Stage

__all__ = ["ClientFacts", "FleetSize", "LoadReport", "LoadStage", "ServerSample"]

LoadStage = Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """Everything that the page shows.

    Attributes:
        title: of the page.
        target: URL that was loaded, without credentials.
        model: name of the model.
        workload: name of the workload.
        workload_text: what it is, in words.
        started_at: date and time, as text.
        duration_s: seconds during which requests were offered.
        slo_ttft_s, slo_tpot_s: what a good request meets, seconds.
        records: one per request, in any order.
        binding: which resource bound.
        client: how the client did.
        valid: whether the run may be believed.
        validity_reasons: why, or why not.
        stages: in order of time; may be empty.
        windows: series of the tokens that arrived; may be empty.
        server: the server's own series; may be empty.
        fleet: its size, in order of time; may be empty.
        max_num_seqs: sequences that can run at once over all replicas, where known.
        intervals: bounds of a figure, in its own unit, by its name in `measure.metrics`:
            ``ttft_p99``, ``ttft_adjusted_p99``, ``goodput_per_s``, ``shed_share``. An infinite
            bound is one that the run does not give.
        chat: a question and the model's answer, when one was asked.
        footer: versions, date, command: a line of text.
    """

    title: str
    target: str
    model: str
    workload: str
    workload_text: str
    started_at: str
    duration_s: float
    slo_ttft_s: float
    records: Sequence[RequestRecord]
    binding: Binding
    client: ClientFacts
    valid: bool
    validity_reasons: Sequence[str]
    slo_tpot_s: float | None = None
    stages: Sequence[LoadStage] = ()
    windows: Sequence[Window] = ()
    server: Sequence[ServerSample] = ()
    fleet: Sequence[FleetSize] = ()
    max_num_seqs: int | None = None
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    chat: tuple[str, str] | None = None
    footer: str = ""
