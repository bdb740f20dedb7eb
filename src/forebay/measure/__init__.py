"""The one definition of TTFT, TPOT, goodput and percentiles, used by load and simulate alike."""

from forebay.measure.amounts import AmountError
from forebay.measure.binding import Binding, gather_evidence
from forebay.measure.comparability import invalid_runs, mismatches
from forebay.measure.comparison import Comparison, MetricComparison, compare
from forebay.measure.evidence import ServerSample
from forebay.measure.evidence_words import rate
from forebay.measure.fleet_size import FleetSize
from forebay.measure.gates import GateError, Rule, RuleResult, parse_gate
from forebay.measure.intervals import Interval, run_intervals
from forebay.measure.itl import token_gaps, weighted_percentiles
from forebay.measure.lateness import MOST_LATE, StepLateness
from forebay.measure.margins import Margins
from forebay.measure.metrics import METRICS, MeasuredMetric, UnknownMetricError
from forebay.measure.percentiles import adjusted_percentile, percentile
from forebay.measure.prediction_quality import RECENT, PredictionQuality
from forebay.measure.records import OUTCOMES, Outcome, RequestRecord
from forebay.measure.samples import RunSample, sample_run
from forebay.measure.stationarity import ENOUGH, ttft_trend
from forebay.measure.summary import Summary, summarise
from forebay.measure.validity import LEAST_IDLE, ClientFacts, Validity, with_emulation
from forebay.measure.windows import Window, tokens_within

__all__ = [
    "ENOUGH",
    "LEAST_IDLE",
    "METRICS",
    "MOST_LATE",
    "OUTCOMES",
    "RECENT",
    "AmountError",
    "Binding",
    "ClientFacts",
    "Comparison",
    "FleetSize",
    "GateError",
    "Interval",
    "Margins",
    "MeasuredMetric",
    "MetricComparison",
    "Outcome",
    "PredictionQuality",
    "RequestRecord",
    "Rule",
    "RuleResult",
    "RunSample",
    "ServerSample",
    "StepLateness",
    "Summary",
    "UnknownMetricError",
    "Validity",
    "Window",
    "adjusted_percentile",
    "compare",
    "gather_evidence",
    "invalid_runs",
    "mismatches",
    "parse_gate",
    "percentile",
    "rate",
    "run_intervals",
    "sample_run",
    "summarise",
    "token_gaps",
    "tokens_within",
    "ttft_trend",
    "weighted_percentiles",
    "with_emulation",
]
