"""Who asks what, when: seeded and pure, the same object for the load test and the simulator."""

from forebay.workload.arrivals import Constant, Gamma, Law, Poisson
from forebay.workload.coarse_times import spread_out
from forebay.workload.conversations import sharegpt_lengths
from forebay.workload.fit_quality import Figure, FitQuality, judge_fit
from forebay.workload.kinds import Cancelling, Conversations, Kind, PairLaw, Pause
from forebay.workload.lengths import (
    Fixed,
    Histogram,
    Independent,
    Joint,
    Lengths,
    Lognormal,
    Uniform,
)
from forebay.workload.prompts import PrefixPool, Segment
from forebay.workload.rates import (
    ExponentialRamp,
    Hold,
    LinearRamp,
    Piece,
    RateCurve,
    Sine,
    series,
    spike,
)
from forebay.workload.requests import Request, Session
from forebay.workload.rescaling import (
    TraceFacts,
    facts,
    faster,
    overlaid,
    thinned,
    window,
    within_context,
)
from forebay.workload.schedule import ClosedLoop, OpenLoop, Replay, Stage, Workload, share_of
from forebay.workload.traces import (
    FORMATS,
    MOONCAKE_BLOCK,
    Row,
    TraceError,
    read_trace,
    shifted,
    trace_sessions,
)
from forebay.workload.workload_fitting import fit_workload

__all__ = [
    "FORMATS",
    "MOONCAKE_BLOCK",
    "Cancelling",
    "ClosedLoop",
    "Constant",
    "Conversations",
    "ExponentialRamp",
    "Figure",
    "FitQuality",
    "Fixed",
    "Gamma",
    "Histogram",
    "Hold",
    "Independent",
    "Joint",
    "Kind",
    "Law",
    "Lengths",
    "LinearRamp",
    "Lognormal",
    "OpenLoop",
    "PairLaw",
    "Pause",
    "Piece",
    "Poisson",
    "PrefixPool",
    "RateCurve",
    "Replay",
    "Request",
    "Row",
    "Segment",
    "Session",
    "Sine",
    "Stage",
    "TraceError",
    "TraceFacts",
    "Uniform",
    "Workload",
    "facts",
    "faster",
    "fit_workload",
    "judge_fit",
    "overlaid",
    "read_trace",
    "series",
    "share_of",
    "sharegpt_lengths",
    "shifted",
    "spike",
    "spread_out",
    "thinned",
    "trace_sessions",
    "window",
    "within_context",
]
