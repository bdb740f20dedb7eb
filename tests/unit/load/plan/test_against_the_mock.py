"""Whole runs against the mock: what it did is what the run says."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sessions import single

from forebay.capacity import Next
from forebay.load.plan import Endpoint, Target
from forebay.load.plan.content import id_content
from forebay.load.plan.request_bodies import Form, body_maker
from forebay.load.results import Goal, InvalidTrialError, find_rate
from forebay.load.results.rate_finding import _run, judge
from forebay.load.run import LoadPlan, LoadRun, run_load
from forebay.load.run.driver import Settings, play_open_loop
from forebay.measure import ClientFacts, RequestRecord, summarise
from forebay.measure.records import FAILURES
from forebay.measure.validity import judge as judge_client
from forebay.mock import MockSpec
from forebay.mock.laws import Fixed
from forebay.mock.mock_server import mock_server
from forebay.spec.workload import fixed_workload
from forebay.workload import OpenLoop, Session

FAST = MockSpec(ttft=Fixed(0.001), itl=Fixed(0.0005))
# What the mock is told to do by a request's header, and the class that its request then has.
FAULTS = {
    "": "ok",
    "drop": "dropped",
    "429": "shed",
    "500": "failed",
    "503": "failed",
    "cut=2": "cut",
    "error-in-stream": "stream_error",
    "malformed": "malformed",
    "hang": "timeout",
    "no-done": "cut",
}


async def ask_each(faults: list[str]) -> list[RequestRecord]:
    """One request a fault, each told by its tenant."""
    async with mock_server(FAST) as mock:
        told = Settings(
            target=Target.from_url(mock.url),
            maker=body_maker("completions", Form(model="mock"), id_content("s")),
            timeout_s=1.0,
            tenant_headers={fault: {"X-Mock": fault} for fault in FAULTS if fault},
        )
        schedule = [_of_tenant(number, fault) for number, fault in enumerate(faults)]
        return (await play_open_loop(told, schedule)).records


def _of_tenant(number: int, fault: str) -> Session:
    return replace(single(number), tenant=fault)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from(sorted(FAULTS)), min_size=1, max_size=25))
def test_every_fault_is_counted_once_in_its_own_class(faults: list[str]) -> None:
    records = asyncio.run(ask_each(faults))
    assert Counter(r.outcome for r in records) == Counter(FAULTS[fault] for fault in faults)
    summary = summarise(records, 1.0, None, 1.0)
    assert sum(summary.outcomes.values()) == summary.offered == len(faults)
    assert summary.failed == sum(FAULTS[fault] in FAILURES for fault in faults)
    for record in records:
        assert record.outcome == FAULTS[record.tenant]


async def test_a_run_stamps_each_token_after_the_mock_wrote_it() -> None:
    spec = MockSpec(ttft=Fixed(0.05), itl=Fixed(0.004))
    async with mock_server(spec) as mock:
        plan = LoadPlan(
            endpoint=Endpoint(url=mock.url, model="mock"),
            workload=fixed_workload("w", 12, 10, stages=[(40.0, 1.0)]),
        )
        run = await asyncio.to_thread(run_load, plan)
        written = {entry.request_id: entry.written for entry in mock.requests}
    assert run.summary.outcomes == {"ok": run.summary.offered}
    for record in run.records:
        assert (record.prompt_tokens, record.tokens_out) == (12, 10)
        assert record.ttft is not None
        assert record.ttft >= 0.05
        told = written[f"{run.salt}-{record.session}-0"]
        seen = [run.origin_s + at_s for at_s in record.token_times or ()]
        assert len(seen) == len(told) == 10
        # Second 0 is a moment of the wall clock: it is known to a fraction of a millisecond.
        assert all(mine >= theirs - 0.0005 for mine, theirs in zip(seen, told, strict=True))


@pytest.mark.slow
async def test_a_known_capacity_is_found() -> None:
    spec = MockSpec(ttft=Fixed(0.02), itl=Fixed(0.01), slots=4)  # 4 / 0.11 s = 36/s
    capacity = spec.capacity_per_s(10) or 0.0
    async with mock_server(spec) as mock:
        plan = LoadPlan(
            endpoint=Endpoint(url=mock.url, model="mock"),
            workload=fixed_workload("w", 8, 10, stages=[(1.0, 1.0)], slo={"ttft": "300ms"}),
            realtime=False,
        )
        goal = Goal(seconds=1.0, tolerance=1.5, start=capacity / 2)
        try:
            found = await asyncio.to_thread(find_rate, plan, goal)
        except InvalidTrialError:
            pytest.skip("this machine is too busy for its client to keep up")
    assert 0.3 * capacity < found.found.rate < 2 * capacity
    assert found.found.high is not None
    assert found.found.low <= found.found.rate <= found.found.high
    assert found.trials


async def test_a_trial_lasts_for_as_many_requests_as_tell_of_a_queue() -> None:
    async with mock_server(FAST) as mock:
        plan = LoadPlan(
            endpoint=Endpoint(url=mock.url, model="mock"),
            workload=fixed_workload("w", 8, 2, stages=[(20.0, 0.3)]),
        )
        goal = Goal(seconds=0.2, requests=40)
        precise = await asyncio.to_thread(_run, plan, Next(100.0, True), goal, 0)
        coarse = await asyncio.to_thread(_run, plan, Next(100.0, False), goal, 0)
    assert precise.duration_s == pytest.approx(0.5)
    assert coarse.duration_s == pytest.approx(0.125), "ten requests, beside the warm-up"
    believed = ClientFacts(lag_p99_s=0.0, lag_max_s=0.0, begun=1, planned=1)
    few = judge(replace(coarse, validity=judge_client(believed)), Next(100.0, False), goal)
    assert "too few requests to see" in few.reason or not few.sustained


async def test_a_trial_whose_client_was_late_gives_no_answer() -> None:
    async with mock_server(FAST) as mock:
        plan = LoadPlan(
            endpoint=Endpoint(url=mock.url, model="mock"),
            workload=fixed_workload("w", 8, 2, stages=[(20.0, 0.3)]),
        )
        run = await asyncio.to_thread(run_load, plan)
    late = ClientFacts(lag_p99_s=0.5, lag_max_s=0.5, begun=1, planned=1)
    doubtful = replace(run, client=late, validity=judge_client(late))
    with pytest.raises(InvalidTrialError, match="late"):
        judge(doubtful, Next(20.0, True), Goal())


async def test_where_no_rate_meets_the_objective_that_is_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds: list[float] = []

    def never_good(plan: LoadPlan) -> LoadRun:
        workload = plan.workload.make()
        assert isinstance(workload, OpenLoop)
        seconds.append(workload.seconds)
        assert workload.curve.requests >= 10, "it may be empty, which says nothing"
        late = replace(one.records[0], intended_s=0.9 * workload.seconds, outcome="failed")
        believed = judge_client(ClientFacts(lag_p99_s=0.0, lag_max_s=0.0, begun=1, planned=1))
        return replace(one, records=[late], duration_s=workload.seconds, validity=believed)

    async with mock_server(FAST) as mock:
        plan = LoadPlan(
            endpoint=Endpoint(url=mock.url, model="mock"),
            workload=fixed_workload("w", 8, 2, stages=[(20.0, 0.3)]),
        )
        one = await asyncio.to_thread(run_load, plan)

    monkeypatch.setattr("forebay.load.results.rate_finding.run_load", never_good)
    found = find_rate(plan, Goal(start=4.0, requests=70))
    assert found.found.rate == 0.0
    assert sum(seconds) < 600
