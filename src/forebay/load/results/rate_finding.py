"""Finds the highest open-loop rate that an endpoint sustains within the objective."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any

from forebay.capacity import Found, Next, RateSearch, Trial, bracket
from forebay.load.run import LoadPlan, LoadRun, run_load
from forebay.measure import ENOUGH as TELLING
from forebay.measure import ttft_trend
from forebay.spec.workload import changed

_WARM_UP = 0.2  # share of a trial that is not judged: the queue and the caches fill
_CLIMBING = 0.5  # length of a trial that only shows the way, in lengths of a precise one
_PROBE_CLIENTS, _PROBE_S = 8, 5.0
_START = 0.5  # of what a few clients get in a closed loop
_LEAST = 1 / 64  # of the first rate: below, nothing is looked for
_FEW = 10  # requests of a trial that only shows the way: an empty one would show nothing
# Requests of a precise trial, without the warm-up, that surely tell whether the queue grows.
ENOUGH = TELLING + 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a sustained rate is, and how finely it is looked for.

    Attributes:
        good_share: share of the requests that must be good.
        seconds: length of a precise trial, at least.
        tolerance: factor between the answer and the lowest rate that fails.
        start: first rate, sessions/s; found by a short closed loop, if None.
        most: highest rate to try, sessions/s.
        requests: that a precise trial lasts for at its rate, beside its warm-up, and others for
            some of them; 0: as it comes.
    """

    good_share: float = 0.99
    seconds: float = 30.0
    tolerance: float = 1.05
    start: float | None = None
    most: float = 100_000.0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class RateFound:
    """The answer, every trial, and the last run at the answer's rate."""

    found: Found
    trials: Sequence[Trial]
    run: LoadRun | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self.found), "trials": [asdict(trial) for trial in self.trials]}


def unfinished(trials: Sequence[Trial], why: str) -> RateFound:
    """What the trials of a search say that ended before it had its answer, and why it did."""
    low, high = bracket(trials)
    return RateFound(Found(low or 0.0, low or 0.0, high, f"not finished: {why}"), trials, None)


class InvalidTrialError(RuntimeError):
    """The client could not keep up: the rate that it found would be its own."""


def find_rate(
    plan: LoadPlan, goal: Goal, on_trial: Callable[[Trial, LoadRun], None] | None = None
) -> RateFound:
    """Tries rates until the highest sustained one is known.

    Each trial has another seed: one schedule's luck is not another's.

    Raises:
        InvalidTrialError: a trial's client could not keep up.
        WorkerFailedError: a worker failed.
        KeyboardInterrupt: Ctrl-C came.
    """
    start = goal.start or _starting_rate(plan)
    first = min(start, goal.most)
    search = RateSearch(start=first, least=_LEAST * first, most=goal.most, tolerance=goal.tolerance)
    trials: list[Trial] = []
    runs: dict[float, LoadRun] = {}
    while (following := search.next(trials)) is not None:
        run = _run(plan, following, goal, len(trials))
        trials.append(judge(run, following, goal))
        runs[following.rate] = run
        if on_trial is not None:
            on_trial(trials[-1], run)
    found = search.found(trials)
    return RateFound(found, trials, runs.get(found.rate))


def judge(run: LoadRun, tried: Next, goal: Goal) -> Trial:
    """Whether a run sustained its rate.

    Raises:
        InvalidTrialError: its client could not keep up.
    """
    if not run.validity.valid:
        raise InvalidTrialError(f"at {tried.rate:.3g}/s: {run.validity}")
    if run.client.interrupted:
        raise KeyboardInterrupt
    slo, warm = run.workload.slo, _WARM_UP * run.duration_s
    judged = [r for r in run.records if r.intended_s >= warm and r.outcome != "cancelled"]
    good = sum(record.is_good(slo.ttft, slo.tpot) for record in judged)
    share = good / len(judged) if judged else 0.0
    if share < goal.good_share:
        reason = f"{_below(share, goal.good_share)} good, {goal.good_share:.1%} wanted"
        return Trial(tried.rate, False, reason, tried.precise)
    trend = ttft_trend(judged, warm, run.duration_s, slo.ttft)
    if trend.growing:
        rise = trend.rise_s or 0.0
        rose = f"TTFT rose by {1e3 * rise:.0f} ms" if isfinite(rise) else "answers stopped coming"
        return Trial(tried.rate, False, f"the queue grows: {rose}", tried.precise)
    reason = f"{share:.1%} good"
    if trend.rise_s is None:
        reason += "; too few requests to see whether the queue grows"
    return Trial(tried.rate, True, reason, tried.precise)


def _below(share: float, wanted: float) -> str:
    """A share in percent with as many digits as it takes to see that it is below another."""
    for digits in (1, 2, 3):
        if f"{share:.{digits}%}" != f"{wanted:.{digits}%}":
            break
    return f"{share:.{digits}%}"


def _run(plan: LoadPlan, tried: Next, goal: Goal, number: int) -> LoadRun:
    seconds = goal.seconds * (1.0 if tried.precise else _CLIMBING)
    requests = goal.requests if tried.precise else min(_FEW, goal.requests)
    seconds = max(seconds, requests / (1.0 - _WARM_UP) / tried.rate)
    workload = changed(
        plan.workload,
        rates=[tried.rate],
        seconds=seconds,
        seed=plan.workload.seed + number,
    )
    return run_load(replace(plan, workload=workload))


def _starting_rate(plan: LoadPlan) -> float:
    """Half of what a few clients get who wait for their answers."""
    workload = changed(plan.workload, clients=_PROBE_CLIENTS, seconds=_PROBE_S)
    run = run_load(replace(plan, workload=workload))
    if run.client.interrupted:
        raise KeyboardInterrupt
    done = sum(record.outcome == "ok" for record in run.counted)
    return max(_START * done / _PROBE_S, 0.1)
