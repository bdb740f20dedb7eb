"""Whether requests are sent by the law that was asked for.

At 200/s against the mock, for Poisson and gamma arrivals: a Kolmogorov-Smirnov test of the gaps
between *actual* sends against the law with its rate as asked, nothing fitted, at 1 %; beside it the
same test of the schedule, which tells the sender's fault from the generator's. A clock has no
such test: its law is a step, from which any jitter at all is infinitely far by that measure; there
the gaps' own deviation counts.

One law cannot be sent exactly by anyone: of gamma gaps with CV 2 a quarter are shorter than 1 % of
the mean (50 us here), one in seven shorter than 0.1 %, and a send takes longer than that. The
distance over all gaps is printed; what is judged there is the distance at gaps from 0.5 ms up
(a tenth of the mean, where 44 % of that law's gaps still lie beneath). A gamma law of CV 0.5 has
next to no such gaps and is judged whole.

For Poisson also the variance of counts over their mean. That ratio is itself uncertain: over n
windows of a true Poisson process its standard error is sqrt(2 / (n - 1)), so 60 windows of a
second would miss 1 +- 0.1 more often than not (0.18). Windows of 25 ms make the bar 3.5 standard
errors wide: 2,400 of them in 60 s, of 5 arrivals each. The schedule alone is also counted by the
second, over an hour of it (3,600 windows).

Run as: python benchmarks/load_arrivals.py [--rate 200] [--seconds 60]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client import lag_p99_ms
from forebay.load.run import LoadRun
from forebay.spec.workload import WorkloadSpec, fixed_workload
from forebay.workload import OpenLoop
from mock_peer import play, running_mock
from tables import Bar, exit_by_bars, print_bars, print_table, write

CVS = {"gamma cv 0.5": 0.5, "gamma cv 2": 2.0}
LAWS: dict[str, Any] = {
    "poisson": "poisson",
    **{name: {"gamma": {"cv": cv}} for name, cv in CVS.items()},
    "constant": "constant",
}
RESOLVED_S = {"gamma cv 2": 0.5e-3}  # shorter gaps than a sender can keep are not judged
CRITICAL = 1.6276  # of sqrt(n) D at 1 %, Kolmogorov's limit law; exact to 1 % above n = 1,000
WINDOW_S, RATIO_OFF = 0.025, 0.1
FEWEST = 10_000  # arrivals
HOUR_S = 3600.0
CONSTANT_P99_MS = 2.0
_TERMS = 400  # of the series below; gaps reach some 20 means

Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200.0, help="requests/s")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each law")
    options = parser.parse_args()
    rate = options.rate
    if rate * options.seconds < FEWEST:
        raise SystemExit(f"the test wants {FEWEST:,} arrivals: raise --rate or --seconds")
    runs = {name: send(law, rate, options.seconds) for name, law in LAWS.items()}
    tests = [gap_test(name, run, rate) for name, run in runs.items() if name != "constant"]
    clock = clock_deviations_ms(runs["constant"], rate)
    counts = [counted("sent", sent_times(runs["poisson"]), options.seconds, WINDOW_S)]
    counts.append(counted("sent", sent_times(runs["poisson"]), options.seconds, 1.0))
    hour = scheduled_times(workload(LAWS["poisson"], rate, HOUR_S))
    counts.append(counted("an hour's schedule", hour, HOUR_S, 1.0))
    report(runs, tests, clock, counts)


def workload(law: Any, rate: float, seconds: float) -> WorkloadSpec:
    """Small requests of one token by a law of arrivals."""
    return fixed_workload("arrivals", 16, 1, stages=[(rate, seconds)], arrivals=law, seed=5)


def send(law: Any, rate: float, seconds: float) -> LoadRun:
    """Sends for some seconds to a mock that answers after 20 ms."""
    with running_mock("arrivals", ttft="20ms", itl="1ms", log=None) as mock:
        return play(mock.url, workload(law, rate, seconds))


def sent_times(run: LoadRun) -> Floats:
    """When each request was really sent, seconds."""
    return np.sort([record.sent_s for record in run.records])


def scheduled_times(spec: WorkloadSpec) -> Floats:
    """When each request is due."""
    made = spec.make()
    assert isinstance(made, OpenLoop)
    return np.array([session.at_s for session in made.schedule()])


@dataclass(frozen=True)
class GapTest:
    """Kolmogorov-Smirnov distances of gaps from their law."""

    law: str
    gaps: int
    sent: float
    judged: float
    scheduled: float

    @property
    def critical(self) -> float:
        """Distance that a true sample exceeds once in a hundred times."""
        return CRITICAL / math.sqrt(self.gaps)


def gap_test(name: str, run: LoadRun, rate: float) -> GapTest:
    """The distances of what was sent and of what was due."""
    sent, due = np.diff(sent_times(run)), np.diff(scheduled_times(run.workload))
    judged = distance(sent, name, rate, RESOLVED_S.get(name, 0.0))
    return GapTest(name, len(sent), distance(sent, name, rate), judged, distance(due, name, rate))


def distance(gaps: Floats, name: str, rate: float, least_s: float = 0.0) -> float:
    """The largest difference between the gaps' distribution and the law's, from `least_s` up."""
    ordered = np.sort(gaps)
    law = law_of(name)(ordered * rate)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    off = np.maximum(np.abs(steps[1:] - law), np.abs(law - steps[:-1]))
    return float(off[ordered >= least_s].max())


def law_of(name: str) -> Callable[[Floats], Floats]:
    """Distribution of gaps with mean 1."""
    if name == "poisson":
        return lambda gaps: -np.expm1(-gaps)
    return lambda gaps: gamma_cdf(gaps, CVS[name])


def gamma_cdf(gaps: Floats, cv: float) -> Floats:
    """Distribution of gamma gaps with mean 1: the series of the incomplete gamma function."""
    shape, x = cv**-2, gaps * cv**-2
    term = np.full_like(x, 1 / shape)
    total = term.copy()
    for n in range(1, _TERMS):
        term = term * x / (shape + n)
        total += term
    cdf: Floats = total * x**shape * np.exp(-x) / math.gamma(shape)
    return cdf


def judged_name(law: str) -> str:
    least = RESOLVED_S.get(law)
    return f"KS distance, {law}" + (f", gaps from {1e3 * least:g} ms up" if least else "")


def clock_deviations_ms(run: LoadRun, rate: float) -> tuple[float, float, float]:
    """How far gaps of a clock lie from 1 / rate: p50, p99, maximum."""
    off = 1e3 * np.abs(np.diff(sent_times(run)) - 1 / rate)
    p50, p99 = np.quantile(off, (0.5, 0.99))
    return float(p50), float(p99), float(off.max())


def counted(what: str, times: Floats, seconds: float, window_s: float) -> dict[str, Any]:
    """Variance over mean of the counts in windows, and that ratio's standard error."""
    windows = int(seconds / window_s + 1e-9)
    counts, _ = np.histogram(times, np.arange(windows + 1) * window_s)
    return {
        "of": what,
        "arrivals": len(times),
        "window_s": window_s,
        "windows": windows,
        "ratio": float(counts.var(ddof=1) / counts.mean()),
        "standard_error": math.sqrt(2 / (windows - 1)),
    }


def report(
    runs: dict[str, LoadRun],
    tests: list[GapTest],
    clock: tuple[float, float, float],
    counts: list[dict[str, Any]],
) -> None:
    lags = {name: lag_p99_ms(run) for name, run in runs.items()}
    print_table(
        ("law", "gaps", "KS of sends", "judged", "of schedule", "critical", "client lag p99, ms"),
        [(t.law, t.gaps, t.sent, t.judged, t.scheduled, t.critical, lags[t.law]) for t in tests],
    )
    print(f"\nconstant: gaps off by p50 {clock[0]:.3f} ms, p99 {clock[1]:.3f} ms, "
          f"at most {clock[2]:.3f} ms; client lag p99 {lags['constant']:.2f} ms")  # fmt: skip
    print_table(
        ("Poisson counts of", "arrivals", "window, s", "windows", "variance / mean", "+-"),
        [tuple(row.values()) for row in counts],
    )
    bars = [Bar(judged_name(t.law), t.judged, t.critical) for t in tests]
    bars.append(Bar("constant: gap off by, p99", clock[1], CONSTANT_P99_MS, "ms"))
    for row in (counts[0], counts[2]):  # not the second: 60 windows tell nothing
        name = f"|variance / mean - 1|, {row['of']}, windows of {row['window_s']:g} s"
        bars.append(Bar(name, abs(row["ratio"] - 1), RATIO_OFF))
    print_bars(bars)
    write(
        "load_arrivals",
        {
            "tests": [vars(t) | {"critical": t.critical} for t in tests],
            "constant_off_ms": clock,
            "counts": counts,
            "client_lag_p99_ms": lags,
            "bars": [bar.as_dict() for bar in bars],
        },
    )


if __name__ == "__main__":
    exit_by_bars(main)
