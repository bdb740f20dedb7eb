"""What runs are compared by: each metric's name, words, direction and statistic."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from forebay.measure.samples import Floats
from forebay.measure.statistic import Mean, Percentile, Rate, Statistic


@dataclass(frozen=True, slots=True)
class MeasuredMetric:
    """One figure of a run, and how two of them are compared.

    Attributes:
        name: as in `Summary` and in JSON.
        words: as people write it.
        unit: seconds and rates are compared by ratio, shares (which may be 0) by difference.
        statistic: how it is computed.
        lower_is_better: its direction.
        aliases: other ways to write it.
    """

    name: str
    words: str
    unit: Literal["s", "1/s", "share"]
    statistic: Statistic
    lower_is_better: bool = True
    aliases: tuple[str, ...] = ()

    @property
    def by_ratio(self) -> bool:
        """Whether two are compared by their ratio, else by their difference."""
        return self.unit != "share"

    def to_scale(self, values: Floats) -> Floats:
        """To the scale on which changes are differences: logarithms, except for shares."""
        if not self.by_ratio:
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(values)

    def from_scale(self, value: float) -> float:
        """Back from `to_scale`, as a figure or as a change."""
        if not self.by_ratio:
            return value
        with np.errstate(over="ignore"):
            return float(np.exp(value))


class UnknownMetricError(ValueError):
    """No metric has that name. ``hint`` says which one was probably meant."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(f"no metric is called {text!r}")
        self.hint = hint


def _latency(what: str, series: str, q: int) -> MeasuredMetric:
    return MeasuredMetric(f"{series}_p{q}", f"p{q} {what}", "s", Percentile(series, q))


METRICS = (
    _latency("TTFT", "ttft", 50),
    _latency("TTFT", "ttft", 95),
    _latency("TTFT", "ttft", 99),
    _latency("adjusted TTFT", "ttft_adjusted", 99),
    _latency("TPOT", "tpot", 50),
    _latency("TPOT", "tpot", 99),
    _latency("ITL", "itl", 99),
    _latency("E2E", "e2e", 50),
    _latency("E2E", "e2e", 99),
    MeasuredMetric("goodput_per_s", "goodput", "1/s", Rate("good"), lower_is_better=False),
    MeasuredMetric("tokens_per_s", "tokens/s", "1/s", Rate("tokens"), lower_is_better=False),
    MeasuredMetric("shed_share", "shed", "share", Mean("shed"), aliases=("sheds",)),
    MeasuredMetric(
        "failure_share", "failures", "share", Mean("failed"), aliases=("failed", "failure")
    ),
)


def metric_named(text: str) -> MeasuredMetric:
    """The metric of a name or of people's words, in any order and case: "TTFT p99".

    Raises:
        UnknownMetricError: there is none.
    """
    wanted = _key(text)
    if wanted in _BY_KEY:
        return _BY_KEY[wanted]
    near = difflib.get_close_matches(wanted, _BY_KEY, n=1, cutoff=0.6)
    if near:
        raise UnknownMetricError(text, f"did you mean {_BY_KEY[near[0]].words}?")
    raise UnknownMetricError(text, f"known: {', '.join(metric.words for metric in METRICS)}")


def _key(text: str) -> str:
    return " ".join(sorted(re.findall(r"[a-z0-9]+", text.lower())))


_BY_KEY = {
    _key(text): metric
    for metric in METRICS
    for text in (metric.name, metric.words, *metric.aliases)
}
