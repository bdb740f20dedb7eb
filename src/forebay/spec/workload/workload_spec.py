"""The workload file: who asks what, when."""

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from pydantic import Field, ValidationInfo, field_validator, model_validator

from forebay.spec.files import (
    Fault,
    Seconds,
    Share,
    Strict,
    as_validation_error,
    did_you_mean,
    refusal,
)
from forebay.spec.workload.workload_files import RUN_FORMAT, opened, read_run_rows, resolved
from forebay.spec.workload.workload_kinds import KindSpec
from forebay.spec.workload.workload_laws import ArrivalsSpec, StageSpec
from forebay.workload import (
    FORMATS,
    ClosedLoop,
    OpenLoop,
    RateCurve,
    Replay,
    Row,
    Stage,
    TraceFacts,
    Workload,
    facts,
    faster,
    overlaid,
    read_trace,
    thinned,
    trace_sessions,
    window,
    within_context,
)

_POISSON = ArrivalsSpec(poisson=True)
_MOST_SESSIONS = 1e8  # tens of GB of schedule: a typing error
_LAST_ROW_S = 0.001  # that a trace's only stage goes on after its last requests: they are its own


class ClosedSpec(Strict):
    """A number of clients, each of which asks again when it was answered."""

    clients: int = Field(ge=1, description="Requests in flight.")
    duration: Seconds = Field(alias="for", gt=0, description="How long they ask.")


class TraceSpec(Strict):
    """Recorded traffic: its times and lengths, and its shared prefixes where it has them."""

    file: str = Field(description="The trace; relative to this file. A name in .gz is unpacked.")
    format: str = Field(
        description=f"How it is written: {', '.join(FORMATS)}, or {RUN_FORMAT} for the "
        "requests.parquet of a load test."
    )
    start: Seconds = Field(default=0.0, ge=0, description="Leave out what comes before.")
    duration: Seconds | None = Field(
        default=None, alias="for", gt=0, description="Stop after so long (of the trace's own time)."
    )
    context: int | None = Field(
        default=None,
        gt=1,
        description="Leave out requests whose prompt and output exceed so many tokens.",
    )
    speed: float = Field(
        default=1.0,
        gt=0,
        description="Play it so much faster: keeps burst CV, lengths and prefix reuse; gaps "
        "shrink.",
    )
    thin: Share | None = Field(
        default=None,
        gt=0,
        description="Keep a random share of the requests: keeps the shape over time; bursts "
        "smooth, prefix reuse falls.",
    )
    copies: int = Field(
        default=1,
        ge=1,
        description="Lay it over itself, displaced: keeps lengths and each copy's reuse; bursts "
        "smooth.",
    )

    @field_validator("format")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in (*FORMATS, RUN_FORMAT):
            known = (*FORMATS, RUN_FORMAT)
            raise refusal(f"{value!r} is not a trace format", did_you_mean(value, known))
        return value

    @field_validator("file")
    @classmethod
    def _found(cls, value: str, info: ValidationInfo) -> str:
        return resolved(value, info)

    def read(self) -> list[Row]:
        """Its rows as they were recorded.

        Raises:
            ValueError: it is not of the format; the message names the file and the line.
            OSError: it cannot be read.
        """
        if self.format == RUN_FORMAT:
            return read_run_rows(self.file)
        with opened(self.file) as file:
            try:
                return read_trace(self.format, file)
            except UnicodeDecodeError:
                raise  # `opened` has the words
            except ValueError as error:
                raise ValueError(f"{self.file}: {error}") from None

    def rescaled(self, rows: list[Row], rng: np.random.Generator) -> list[Row]:
        """The rows cut, thinned, laid over each other and sped up as the file says.

        Raises:
            ValueError: nothing is left.
        """
        kept = window(rows, self.start, self.duration)
        if self.context is not None:
            kept = within_context(kept, self.context)
        if self.thin is not None:
            kept = thinned(kept, self.thin, rng)
        return faster(overlaid(kept, self.copies, rng), self.speed)


class LoadSlo(Strict):
    """What makes a request good."""

    ttft: Seconds = Field(
        default=1.0, gt=0, description="First token within, from the intended send."
    )
    tpot: Seconds | None = Field(
        default=None, gt=0, description="Per output token after the first. Default: no limit."
    )


class WorkloadSpec(Strict):
    """Who asks what, when."""

    name: str = Field(min_length=1, description="Name of the workload, in reports.")
    description: str = Field(default="", description="What it stands for.")
    source: str = Field(default="", description="Where its figures come from.")
    arrivals: ArrivalsSpec = Field(
        default=_POISSON,
        description="Law of the gaps between arrivals: poisson, constant, or gamma with a cv. "
        "Default poisson: independent users.",
    )
    stages: list[StageSpec] = Field(
        default_factory=list,
        description="Rate of arriving sessions over time; each conversation counts once.",
    )
    closed: ClosedSpec | None = Field(
        default=None,
        description="A closed loop instead of stages: it hides queues, so use it for "
        "peak throughput only.",
    )
    trace: TraceSpec | None = Field(
        default=None, description="Recorded traffic, instead of stages."
    )
    requests: list[KindSpec] = Field(
        default_factory=list, description="The kinds of request. Not with a trace."
    )
    slo: LoadSlo = Field(default_factory=LoadSlo, description="What makes a request good.")
    temperature: float = Field(default=0.0, ge=0, description="Sampling temperature; 0 is greedy.")
    seed: int = Field(default=0, ge=0, description="Same seed, same times, lengths and order.")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        faults = [*self._faults_of_time(), *self._faults_of_requests()]
        if faults:
            raise as_validation_error("workload", faults)
        return self

    def _faults_of_time(self) -> Iterator[Fault]:
        ways = {"stages": self.stages, "closed": self.closed, "trace": self.trace}
        first, *others = [name for name, value in ways.items() if value] or [""]
        if not first:
            yield Fault((), "does not say when requests come", "write stages, closed or trace")
        for name in others:
            yield Fault((name,), f"{first} says when requests come too", "keep one of them")
        if first not in ("", "stages") and self.arrivals != _POISSON:
            yield Fault(("arrivals",), f"has no effect beside {first}", "leave it out")
        if self.stages and self._curve().requests > _MOST_SESSIONS:
            message = f"ask for {self._curve().requests:.3g} sessions in all"
            yield Fault(("stages",), message, f"a run holds {_MOST_SESSIONS:g} at most")

    def _faults_of_requests(self) -> Iterator[Fault]:
        if self.trace is not None and self.requests:
            yield Fault(("requests",), "a trace has requests of its own", "leave one of them out")
        if self.trace is None and not self.requests:
            yield Fault(("requests",), "is missing", "list the kinds of request")
        names: set[str] = set()
        for number, kind in enumerate(self.requests):
            if kind.name in names:
                message = f"another kind is named {kind.name} too"
                yield Fault(("requests", str(number), "name"), message, "give each its own name")
            names.add(kind.name)

    def make(self) -> Workload:
        """The workload, its files read.

        Raises:
            ValueError: a file does not hold what it should.
            OSError: a file cannot be read.
        """
        kinds = [kind.make() for kind in self.requests]
        if self.trace is not None:
            rng = np.random.default_rng([self.seed, 3])
            recorded = self.trace.read()
            rows = self.trace.rescaled(recorded, rng)
            seconds = self._trace_seconds(recorded, rows)
            return Replay(recorded=trace_sessions(rows), seconds=seconds)
        if self.closed is not None:
            closed = self.closed
            return ClosedLoop(
                clients=closed.clients, seconds=closed.duration, kinds=kinds, seed=self.seed
            )
        law = self.arrivals.make()
        return OpenLoop(curve=self._curve(), law=law, kinds=kinds, seed=self.seed)

    def _curve(self) -> RateCurve:
        return RateCurve(tuple(piece for stage in self.stages for piece in stage.make()))

    def trace_facts(self) -> tuple[TraceFacts, TraceFacts] | None:
        """The trace in figures, as recorded and as it is played; None without a trace.

        Raises:
            ValueError: it does not hold what it should.
            OSError: it cannot be read.
        """
        if self.trace is None:
            return None
        rows = self.trace.read()
        played = self.trace.rescaled(rows, np.random.default_rng([self.seed, 3]))
        return facts(rows), facts(played)

    def _trace_seconds(self, recorded: list[Row], rows: list[Row]) -> float:
        """Seconds that the rows last which are played: no longer than there are any."""
        trace = self.trace
        assert trace is not None
        if trace.duration is None:
            return max(rows[-1].at_s, 1.0)
        left_s = (recorded[-1].at_s - trace.start) / trace.speed
        return min(trace.duration / trace.speed, max(left_s, 1.0))

    def report_stages(self, seconds: float) -> list[Stage]:
        """The stretches that a report tells apart, of a run that lasted so long.

        One that was interrupted has its last stage cut, and none of those after it.
        """
        if not self.stages:
            if self.closed:
                return [Stage(f"{self.closed.clients} clients", 0.0, seconds)]
            return [Stage("trace", 0.0, seconds + _LAST_ROW_S)]
        stages, start = [], 0.0
        for stage in self.stages:
            end = min(start + stage.duration, seconds)
            if end <= start:
                break
            stages.append(Stage(stage.label, start, end, stage.hold))
            start = end
        return stages

    def plain(self) -> dict[str, Any]:
        """The file's content, complete, as it can be written and read again."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
