"""How much change is none: the margin within which two figures count as the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from forebay.measure.amounts import PERCENT, change_units, parse_amount
from forebay.measure.metrics import MeasuredMetric, metric_named


@dataclass(frozen=True, slots=True)
class Margins:
    """Margins of equivalence.

    Attributes:
        ratio: of figures compared by their ratio. 5 %: what a reader of a latency would not act on,
            and about what good runs on a quiet machine differ by.
        share: of shares, as a difference: half a point.
        of_metric: by metric name, instead of these.
    """

    ratio: float = 0.05
    share: float = 0.005
    of_metric: Mapping[str, float] = field(default_factory=dict)

    def on_scale(self, metric: MeasuredMetric) -> float:
        """The margin on the metric's scale (see `MeasuredMetric.to_scale`).

        Symmetric there: within 5 % means a factor between 1/1.05 and 1.05, so that A against B and
        B against A get the same answer.
        """
        chosen = self.of_metric.get(metric.name, self.ratio if metric.by_ratio else self.share)
        return math.log1p(chosen) if metric.by_ratio else chosen

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Margins:
        """Reads "5%" (every ratio), "p99 TTFT=10%" and "shed=1 point"; the last one counts.

        Raises:
            UnknownMetricError: a name is no metric's.
            AmountError: an amount is none, or in another unit.
        """
        ratio, of_metric = cls().ratio, {}
        for text in texts:
            name, equals, amount = text.rpartition("=")
            if not equals:
                ratio = parse_amount(text, PERCENT)
                continue
            metric = metric_named(name)
            of_metric[metric.name] = parse_amount(amount, change_units(metric))
        return cls(ratio=ratio, of_metric=of_metric)
