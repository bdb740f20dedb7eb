from __future__ import annotations

import math

import pytest

from forebay.measure import METRICS, AmountError, Margins, MeasuredMetric, UnknownMetricError
from forebay.measure.amounts import PERCENT, SECONDS, parse_amount
from forebay.measure.metrics import metric_named


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_known_by_name_and_words(metric: MeasuredMetric) -> None:
    assert metric_named(metric.name) is metric
    assert metric_named(metric.words.upper()) is metric


def test_the_order_of_words_does_not_matter() -> None:
    assert metric_named("TTFT p99").name == metric_named("p99 ttft").name == "ttft_p99"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("p99 TTTF", "did you mean p99 TTFT?"),
        ("ttft-p9", "did you mean p99 TTFT?"),
        ("good put", "did you mean goodput?"),
        ("colour", "known: p50 TTFT, p95 TTFT"),
    ],
)
def test_an_unknown_metric_names_the_nearest(text: str, hint: str) -> None:
    with pytest.raises(UnknownMetricError, match="no metric is called") as error:
        metric_named(text)
    assert hint in error.value.hint


@pytest.mark.parametrize(
    ("text", "units", "amount"),
    [("10 %", PERCENT, 0.1), ("5%", PERCENT, 0.05), ("2.5 percent", PERCENT, 0.025),
     ("800ms", SECONDS, 0.8), (" 1.5 s ", SECONDS, 1.5)],
)  # fmt: skip
def test_amounts_carry_a_unit(text: str, units: dict[str, float], amount: float) -> None:
    assert parse_amount(text, units) == pytest.approx(amount)


@pytest.mark.parametrize("text", ["10", "ten %", "-5 %", "10 % more", "", "1e3 %", "5 points"])
def test_what_is_no_amount_is_refused_with_a_way_out(text: str) -> None:
    with pytest.raises(AmountError, match="not an amount in %") as error:
        parse_amount(text, PERCENT)
    assert error.value.hint.startswith("write ")


def test_margins_hold_for_all_or_for_one() -> None:
    margins = Margins.parse(["3%", "p99 TTFT=10%", "shed = 2 points"])
    assert margins.on_scale(metric_named("p50 TTFT")) == pytest.approx(math.log(1.03))
    assert margins.on_scale(metric_named("p99 TTFT")) == pytest.approx(math.log(1.10))
    assert margins.on_scale(metric_named("shed")) == pytest.approx(0.02)
    assert margins.on_scale(metric_named("failures")) == Margins().share


def test_a_share_has_its_margin_in_points() -> None:
    with pytest.raises(AmountError, match="not an amount in points"):
        Margins.parse(["shed=2%"])
