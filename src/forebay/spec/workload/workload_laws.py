"""How a workload file writes laws: of lengths, of pauses, of arrivals, of rates over time."""

from typing import Any, ClassVar, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from forebay.spec.files import OneOf, Rate, Seconds, Strict, did_you_mean, kind_of, refusal
from forebay.spec.workload.workload_files import read_points
from forebay.workload import (
    Constant,
    ExponentialRamp,
    Fixed,
    Gamma,
    Histogram,
    Hold,
    Law,
    Lengths,
    LinearRamp,
    Lognormal,
    Pause,
    Piece,
    Poisson,
    Sine,
    Uniform,
    series,
    spike,
)


class LognormalSpec(Strict):
    """A lognormal by two quantiles, cut at both ends; tokens."""

    p50: float = Field(gt=0, description="Median, tokens.")
    p99: float = Field(gt=0, description="99th percentile, tokens.")
    min: int = Field(default=1, ge=1, description="No length below, tokens.")
    max: int = Field(default=1_000_000, ge=1, description="No length above, tokens.")


class HistogramSpec(Strict):
    """Weights of the lengths between rising edges; tokens."""

    edges: list[int] = Field(
        min_length=2, description="Rising, one more than weights; a bin ends before its upper edge."
    )
    weights: list[float] = Field(min_length=1, description="Of each bin, 0 or more.")


class LengthsSpec(OneOf):
    """A law of lengths in tokens; a bare number is a fixed length."""

    ways: ClassVar = ("fixed", "uniform", "lognormal", "histogram")

    fixed: int | None = Field(default=None, description="Always the same, tokens.")
    uniform: list[int] | None = Field(
        default=None,
        min_length=2,
        max_length=2,
        description="The shortest and the longest, tokens; all between are alike.",
    )
    lognormal: LognormalSpec | None = Field(default=None, description="By two quantiles, tokens.")
    histogram: HistogramSpec | None = Field(default=None, description="By bins, tokens.")

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return {"fixed": value}
        if isinstance(value, (dict, cls)):
            return value
        hint = f"write a whole number, or one of {', '.join(cls.ways)}"
        raise refusal(f"{kind_of(value)} is not a law of lengths", hint)

    def make(self) -> Lengths:
        """The law."""
        if self.uniform is not None:
            return Uniform(*self.uniform)
        if self.lognormal is not None:
            law = self.lognormal
            return Lognormal(law.p50, law.p99, least=law.min, most=law.max)
        if self.histogram is not None:
            return Histogram(tuple(self.histogram.edges), tuple(self.histogram.weights))
        assert self.fixed is not None
        return Fixed(self.fixed)


class PauseSpec(Strict):
    """A pause: lognormal by two quantiles, or constant where only `p50` is written."""

    p50: Seconds = Field(gt=0, description="Median.")
    p99: Seconds | None = Field(default=None, gt=0, description="99th percentile. Default: `p50`.")

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"p50": value} if isinstance(value, str | int | float) else value

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.p99 is not None and self.p99 < self.p50:
            raise refusal("its p99 lies below its p50", "write a p99 of at least p50, or none")
        return self

    def make(self) -> Pause:
        """The law."""
        return Pause(self.p50, self.p50 if self.p99 is None else self.p99)


class GammaSpec(Strict):
    """Bursts."""

    cv: float = Field(
        gt=0, description="Coefficient of variation of the gaps: above 1 bursts, below 1 regular."
    )


class ArrivalsSpec(OneOf):
    """The law of the gaps between arrivals; its name alone where it has no figure."""

    ways: ClassVar = ("poisson", "constant", "gamma")

    poisson: bool | None = Field(default=None, description="Independent arrivals.")
    constant: bool | None = Field(default=None, description="A clock.")
    gamma: GammaSpec | None = Field(default=None, description="Gamma gaps.")

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        if value in ("poisson", "constant"):
            return {value: True}
        if value == "gamma":
            raise refusal("gamma needs a cv", "write {gamma: {cv: 2}}")
        if isinstance(value, (dict, cls)):
            return value
        hint = did_you_mean(value, cls.ways) if isinstance(value, str) else ""
        raise refusal(f"{kind_of(value)} is not a law of arrivals", hint)

    @field_validator("poisson", "constant")
    @classmethod
    def _true(cls, value: bool | None) -> bool | None:
        if value is False:
            raise refusal(
                "false says nothing: a law is named to be used", "write true, or leave it out"
            )
        return value

    def make(self) -> Law:
        """The law."""
        if self.gamma is not None:
            return Gamma(self.gamma.cv)
        return Constant() if self.constant else Poisson()


class SineSpec(Strict):
    """A wave around a mean."""

    mean: Rate = Field(gt=0, description="Requests/s in the middle.")
    amplitude: Rate = Field(description="Requests/s above and below; at most the mean.")
    period: Seconds = Field(gt=0, description="Of one wave.")


class SpikeSpec(Strict):
    """A step up and down again."""

    base: Rate = Field(description="Requests/s before and after.")
    peak: Rate = Field(description="Requests/s within.")
    start: Seconds = Field(ge=0, description="From the start of the stage.")
    length: Seconds = Field(gt=0, description="How long the peak lasts.")


class PointSpec(Strict):
    """A rate that holds from a moment on."""

    at: Seconds = Field(ge=0, description="From the start of the stage.")
    rate: Rate = Field(description="Requests/s from there to the next point.")


class StageSpec(OneOf):
    """One stage of the rate over time."""

    ways: ClassVar = ("hold", "ramp", "exponential", "sine", "spike", "series")

    duration: Seconds = Field(alias="for", gt=0, description="How long the stage lasts.")
    hold: Rate | None = Field(default=None, description="One rate.")
    ramp: list[Rate] | None = Field(
        default=None, min_length=2, max_length=2, description="From one rate to another, straight."
    )
    exponential: list[Rate] | None = Field(
        default=None,
        min_length=2,
        max_length=2,
        description="From one rate to another by a constant factor a second.",
    )
    sine: SineSpec | None = Field(default=None, description="A wave.")
    spike: SpikeSpec | None = Field(default=None, description="A step up and down again.")
    series: list[PointSpec] | None = Field(
        default=None,
        min_length=1,
        description="Rates that hold from one moment to the next: points, or a CSV file with the "
        "columns seconds and rate (requests/s).",
    )

    @field_validator("series", mode="before")
    @classmethod
    def _file(cls, value: Any, info: ValidationInfo) -> Any:
        return read_points(value, info) if isinstance(value, str) else value

    def make(self) -> list[Piece]:
        """Its pieces, one after the other."""
        if self.ramp is not None:
            return [LinearRamp(self.ramp[0], self.ramp[1], self.duration)]
        if self.exponential is not None:
            first, last = self.exponential
            return [ExponentialRamp(first, last, self.duration)]
        if self.sine is not None:
            wave = self.sine
            return [Sine(wave.mean, wave.amplitude, wave.period, self.duration)]
        if self.spike is not None:
            up = self.spike
            return spike(up.base, up.peak, self.duration, start=up.start, length=up.length)
        if self.series is not None:
            return self._steps(self.series)
        assert self.hold is not None
        return [Hold(self.hold, self.duration)]

    def _steps(self, points: list[PointSpec]) -> list[Piece]:
        if points[0].at > 0:
            raise ValueError("the first point of a series is at 0s")
        if points[-1].at >= self.duration:
            raise ValueError("the last point of a series lies before the end of its stage")
        times = [*(point.at for point in points), self.duration]
        return series(times, [*(point.rate for point in points), 0.0])

    @property
    def label(self) -> str:
        """The stage in a few words."""
        if self.hold is not None:
            return f"{self.hold:g}/s"
        pair = self.ramp or self.exponential
        if pair is not None:
            return f"{pair[0]:g} to {pair[1]:g}/s"
        return self.way
