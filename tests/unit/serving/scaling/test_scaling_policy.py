"""What Serve's controller gets from the autoscaling policy, with Serve's own types of values."""

from __future__ import annotations

import logging
import pickle
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from fake_serve import Handle

from forebay.policies.scaling import Capacity, ReplicaReading, ScalingRecord
from forebay.serving.app.scaling_settings import autoscaling_config
from forebay.serving.names import READING_PREFIX
from forebay.serving.scaling import scaling_link, scaling_log, scaling_policy
from forebay.serving.scaling.scaling_gauges import ScalingGauges
from forebay.serving.scaling.scaling_log import ScalingLog, Sizes
from forebay.serving.scaling.scaling_policy import ForebayScaling, readings
from forebay.spec.service import ServiceSpec, declared_capacity

SETTINGS: dict[str, Any] = {
    "service": "chat",
    "min": 1,
    "max": 8,
    "headroom": 0.2,
    "stable_s": 300.0,
    "cold_start_s": 20.0,
    "tolerated_s": 0.5,
    "capacity": None,
    "schedule": [],
}
EARLY_S = 3  # until everybody has heard of a replica that is ready
NEWS_S = 3  # until the policy has heard of who asks, and HAProxy of the replica
CAPABLE = {"prefill_rate": 10_000.0, "decode_rate": 1_000.0, "kv_tokens": 1e6}


def service(scaling: dict[str, Any]) -> ServiceSpec:
    model = {"id": "m", "source": "demo-cpu", "engine": "emulated"}
    return ServiceSpec.model_validate({"name": "chat", "model": model, "scaling": scaling})


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.shown: list[ScalingRecord] = []  # as metrics

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class Log(Handle):
    """The actor, called in place."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A new process: nothing is remembered."""
        self.actor = ScalingLog()
        actor = self.actor
        super().__init__(tick=actor.tick, orders=actor.orders, set_floor=actor.set_floor)

    @property
    def records(self) -> list[dict[str, Any]]:
        return self.actor.last(1_000)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(scaling_policy, "time", clock)
    monkeypatch.setattr(scaling_log, "time", clock)
    monkeypatch.setattr(ScalingGauges, "set", lambda _, record: clock.shown.append(record))
    return clock


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr(ray, "wait", lambda refs, timeout: (refs, []))
    monkeypatch.setattr(ray, "get", lambda ref: ref)
    monkeypatch.setattr(scaling_link, "scaling_log", lambda _: log)
    return log


@dataclass(frozen=True)
class ReplicaId:
    unique_id: str


def replica(name: str) -> Any:
    return ReplicaId(name)


def reported(values: dict[Any, dict[str, float]]) -> dict[str, dict[Any, list[Any]]]:
    """Serve's raw metrics: for each name and replica, points in time."""
    return {
        READING_PREFIX + name: {
            who: [SimpleNamespace(timestamp=0.0, value=-1.0), SimpleNamespace(value=said[name])]
            for who, said in values.items()
            if name in said
        }
        for name in ReplicaReading.names()
    }


def context(target: int, values: dict[Any, dict[str, float]]) -> Any:
    return SimpleNamespace(
        target_num_replicas=target, running_replicas=list(values), raw_metrics=reported(values)
    )


def test_the_last_point_of_each_replica_is_read_and_half_a_report_is_not() -> None:
    whole = {name: float(i) for i, name in enumerate(ReplicaReading.names())}
    half = {"sequence": 3.0}
    found = readings(reported({replica("a"): whole, replica("b"): half}))
    assert list(found) == ["a"]
    assert found["a"] == ReplicaReading(**whole)


def test_offered_tokens_make_the_fleet_grow_once_a_second_and_the_log_says_why(
    clock: Clock, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    policy, one, target = ForebayScaling(SETTINGS), replica("a"), 1
    caplog.set_level(logging.WARNING, logger="ray.serve")  # as in Serve's processes
    reading = dict.fromkeys(ReplicaReading.names(), 0.0) | CAPABLE
    for second in range(20):
        reading |= {"sequence": float(second), "offered_prefill": 30_000.0 * second}
        target, state = policy(context(target, {one: reading}))
        assert state == {}
        again, _ = policy(context(target, {one: reading}))  # within the same second
        assert again == target
        clock.now += 1.0
    assert target == 4  # three replicas' work and headroom
    grown = [record for record in log.records if record["target"] > record["before"]]
    assert "prefill" in grown[-1]["reason"]
    assert grown[-1]["seen"]["capacity"]["source"] == "learned"
    sizes = [one.getMessage() for one in caplog.records if one.getMessage().startswith("replicas ")]
    assert len(sizes) == len(grown)
    assert "-> 4: " in sizes[-1]
    assert len(clock.shown) == 20, "once a second, as metrics too"
    assert clock.shown[-1].target == 4


def test_a_lost_log_costs_a_record_and_no_decision(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: str) -> Any:
        raise RuntimeError("no such actor")

    monkeypatch.setattr(scaling_link, "scaling_log", broken)
    policy, one = ForebayScaling(SETTINGS), replica("a")
    reading = dict.fromkeys(ReplicaReading.names(), 0.0) | CAPABLE
    target = 1
    for second in range(40):  # for the first of them it waits for what the log may know
        reading |= {"sequence": second + 1.0, "offered_prefill": 30_000.0 * second}
        target, _ = policy(context(target, {one: reading}))
        clock.now += 1.0
    assert target == 4


def test_without_reports_the_fleet_is_held(clock: Clock, log: Log) -> None:
    policy, silent = ForebayScaling(SETTINGS), replica("a")
    for _ in range(12):
        assert policy(context(5, {silent: {}}))[0] == 5
        clock.now += 1.0
    assert log.records[-1]["allowed"]["limits"] == ("blind",)
    assert "too few replicas report" in log.records[-1]["reason"]


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    logger = SimpleNamespace(info=lambda *_: None, warning=lambda text, *of: said.append(text % of))
    monkeypatch.setattr(scaling_policy, "_LOG", logger)
    return said


def test_a_fleet_that_cannot_be_seen_is_said_once_when_that_begins(
    clock: Clock, log: Log, warned: list[str]
) -> None:
    policy, one = ForebayScaling(SETTINGS), replica("a")
    reading = dict.fromkeys(ReplicaReading.names(), 0.0) | CAPABLE
    for second in range(100):
        silent = 5 <= second < 40 or second >= 60
        values = {} if silent else reading | {"sequence": float(second)}
        policy(context(1, {one: values}))
        clock.now += 1.0
        if second < 20:  # who has only just been silent may only be late
            assert not warned
    assert [text.split(":")[0] for text in warned] == [
        "BLIND, too few replicas report; the fleet is held"
    ] * 2


def test_replicas_that_do_not_start_are_said_once_when_they_are_overdue(
    clock: Clock, log: Log, warned: list[str]
) -> None:
    policy, one = ForebayScaling(SETTINGS), replica("a")
    reading = dict.fromkeys(ReplicaReading.names(), 0.0) | CAPABLE
    for second in range(100):
        values = {one: reading | {"sequence": float(second)}}
        policy(context(3 if second else 1, values))
        clock.now += 1.0
        assert bool(warned) == (second > 1 + 3 * SETTINGS["cold_start_s"])
    assert [text.split(":")[0] for text in warned] == [
        "2 OVERDUE, asked for long ago and not started"
    ]


def test_a_floor_set_by_hand_holds_until_it_expires(clock: Clock, log: Log) -> None:
    policy, one, target = ForebayScaling({**SETTINGS, "stable_s": 5.0}), replica("a"), 1
    reading = dict.fromkeys(ReplicaReading.names(), 0.0) | CAPABLE
    log.actor.set_floor(6, clock.now + 60.0)
    sizes = []
    for second in range(150):
        reading |= {"sequence": float(second)}
        target, _ = policy(context(target, {one: reading}))
        sizes.append(target)
        clock.now += 1.0
    assert sizes[5] == sizes[59] == 6
    assert sizes[-1] == 1


def test_a_scheduled_floor_begins_early_by_the_cold_start(clock: Clock, log: Log) -> None:
    floor = {"start": clock.now + 60.0, "end": clock.now + 90.0, "replicas": 4}
    policy, one, target = ForebayScaling({**SETTINGS, "schedule": [floor]}), replica("a"), 1
    reading = dict.fromkeys(ReplicaReading.names(), 0.0) | CAPABLE
    for second in range(50):
        reading |= {"sequence": float(second)}
        target, _ = policy(context(target, {one: reading}))
        ready_at = second + SETTINGS["cold_start_s"]
        assert (target == 4) == (ready_at >= 60 - EARLY_S)
        clock.now += 1.0


def test_the_first_floor_is_ready_in_time_after_one_start_that_nobody_saw_begin(
    clock: Clock, log: Log
) -> None:
    """A replica takes five minutes, and the file says nothing: `cold_start` is a minute."""
    start_s, opens_s = 300.0, 1_200.0
    floor = {"start": clock.now + opens_s, "end": clock.now + 2_000.0, "replicas": 4}
    policy = ForebayScaling({**SETTINGS, "cold_start_s": 60.0, "schedule": [floor]})
    reading = dict.fromkeys(ReplicaReading.names(), 0.0) | CAPABLE | {"start_s": start_s}
    target, asked_s = 1, float("inf")
    for second in range(1_000):
        values = {}
        if second >= start_s:
            values[replica("a")] = reading | {"sequence": float(second)}
        target, _ = policy(context(target, values))
        asked_s = min(asked_s, second) if target == 4 else asked_s
        clock.now += 1.0
    assert opens_s - start_s - EARLY_S - 1.0 <= asked_s <= opens_s - start_s - EARLY_S


@pytest.mark.parametrize(
    ("running", "target", "decided"), [(1, 1, 4), (4, 4, 1), (1, 4, 2), (2, 3, 8), (1, 1, 0)]
)
def test_serve_carries_a_decision_out_at_once_and_in_full(
    running: int, target: int, decided: int
) -> None:
    from ray.serve.autoscaling_policy import _apply_autoscaling_config
    from ray.serve.config import AutoscalingConfig

    config = AutoscalingConfig(**autoscaling_config(service({"min": 1, "max": 8})))
    seen = SimpleNamespace(
        current_num_replicas=running,
        target_num_replicas=target,
        total_num_requests=3,
        config=config,
        policy_state={},
    )
    done, _ = _apply_autoscaling_config(lambda _: (decided, {}))(seen)
    assert done == decided


def serve(
    policy: ForebayScaling, clock: Clock, target: int, seconds: int, tokens: float, at: int = 0
) -> int:
    """Let one replica report so many prompt tokens offered a second; returns the target."""
    one = replica("a")
    for second in range(at, at + seconds):
        reading = dict.fromkeys(ReplicaReading.names(), 0.0) | CAPABLE
        reading |= {"sequence": second + 1.0, "offered_prefill": tokens * second}
        target, _ = policy(context(target, {one: reading}))
        clock.now += 1.0
    return target


def test_what_the_file_says_of_a_replica_is_used_instead_of_what_it_learns(
    clock: Clock, log: Log
) -> None:
    spec = service({"min": 1, "max": 8, "capacity": {"prefill": "20000/s", "decode": "2000/s"}})
    settings = autoscaling_config(spec)["policy"].policy_kwargs["settings"]
    assert serve(ForebayScaling({**settings, "cold_start_s": 20.0}), clock, 1, 30, 30_000.0) == 2
    seen = log.records[-1]["seen"]["capacity"]
    assert (seen["prefill"], seen["kv"], seen["source"]) == (20_000.0, 1e6, "declared")


def test_a_slowed_engine_sustains_as_much_less_than_the_file_says() -> None:
    model = {"id": "m", "source": "demo-cpu", "engine": "emulated", "slowed": 20}
    scaling = {"min": 1, "max": 8, "capacity": {"prefill": "20000/s", "decode": "2000/s"}}
    spec = ServiceSpec.model_validate({"name": "chat", "model": model, "scaling": scaling})
    settings = autoscaling_config(spec)["policy"].policy_kwargs["settings"]
    assert settings["capacity"] == (1_000.0, 100.0)
    assert declared_capacity(spec) == Capacity.declared(1_000.0, 100.0)  # a replay's


def test_a_restarted_controller_goes_on_where_it_was(clock: Clock, log: Log) -> None:
    busy = 30_000.0
    target = serve(ForebayScaling(SETTINGS), clock, 1, 30, busy)
    assert target == 4
    kept = len(log.records)
    after = ForebayScaling(SETTINGS)
    assert serve(after, clock, target, 40, busy, at=30) == 4
    assert len(log.records) > kept
    # It knows what was asked before it began, and so need not watch for `stable_s` by itself.
    quick = {**SETTINGS, "stable_s": 60.0}
    assert serve(ForebayScaling(quick), clock, 4, 30, 0.0, at=70) == 4
    assert serve(ForebayScaling(quick), clock, 4, 50, 0.0, at=100) < 4


def test_a_memory_that_reads_well_and_decides_nothing_is_given_up(clock: Clock, log: Log) -> None:
    busy = 30_000.0
    target = serve(ForebayScaling(SETTINGS), clock, 1, 30, busy)
    memory = log.actor.orders(with_memory=True).memory
    assert memory is not None
    at, known = pickle.loads(memory)
    other = pickle.dumps((at, replace(known, policy="of another version")))
    log.actor.tick({}, keep=False, memory=other, sizes=Sizes(4, 4, 20.0))
    after = ForebayScaling(SETTINGS)
    kept = len(log.records)
    assert serve(after, clock, target, 40, busy, at=30) == 4
    assert len(log.records) > kept
    assert serve(after, clock, 4, 40, 2 * busy, at=70) > 4, "it sees what is asked for"


def test_until_the_log_has_answered_a_new_controller_holds(
    clock: Clock, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "wait", lambda refs, timeout: ([], refs))
    policy = ForebayScaling({**SETTINGS, "min": 3})
    assert serve(policy, clock, 2, 10, 90_000.0) == 2
    assert serve(policy, clock, 2, 10, 90_000.0, at=10) >= 3  # it does not wait for ever


def test_a_wall_clock_that_is_stepped_back_changes_nothing(
    clock: Clock, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = ForebayScaling(SETTINGS)
    target = serve(policy, clock, 1, 30, 30_000.0)
    wall = clock.now - 10_000.0
    monkeypatch.setattr(clock, "time", lambda: wall)
    assert serve(policy, clock, target, 30, 30_000.0, at=30) == target
    after = ForebayScaling(SETTINGS)
    assert serve(after, clock, target, 30, 30_000.0, at=60) == target


def test_a_fault_of_the_policy_leaves_the_fleet_as_it_is(clock: Clock, log: Log) -> None:
    policy = ForebayScaling(SETTINGS)
    broken = SimpleNamespace(target_num_replicas=5, running_replicas=None, raw_metrics=None)
    for _ in range(3):
        assert policy(broken) == (5, {})
        clock.now += 1.0


def test_who_asks_a_fleet_of_none_gets_one_replica_which_waits_for_him(
    clock: Clock, log: Log
) -> None:
    settings = {**SETTINGS, "min": 0, "stable_s": 30.0}
    policy, asleep = ForebayScaling(settings), context(0, {})
    for _ in range(5):
        assert policy(asleep)[0] == 0
        clock.now += 1.0
    assert log.actor.activate(99.0) == pytest.approx(SETTINGS["cold_start_s"] + NEWS_S)
    clock.now += 1.0
    assert policy(asleep)[0] == 1
    assert log.records[-1]["allowed"]["limits"] == ("woken",)
    clock.now += 5.0
    policy(context(1, {}))
    assert log.actor.activate(99.0) == pytest.approx(SETTINGS["cold_start_s"] + NEWS_S - 5.0)
    # Whether he comes back or not, it stays for as long as any replica does.
    assert serve(policy, clock, 1, 25, 0.0) == 1
    assert serve(policy, clock, 1, 90, 0.0, at=25) == 0


def test_the_gauges_say_what_is_wanted_and_what_is_missing(clock: Clock, log: Log) -> None:
    from forebay.observability import fleet_metrics
    from forebay.policies.scaling import Autoscaler, LimitConfig, ScalingConfig
    from forebay.serving.scaling.scaling_gauges import gauges

    scaler = Autoscaler(ScalingConfig(), LimitConfig(1, 2), cold_start_s=20.0)
    reading = dict.fromkeys(ReplicaReading.names(), 0.0) | CAPABLE
    target = 1
    for second in range(30):
        values = reading | {"sequence": second, "offered_prefill": 40_000.0 * second}
        record = scaler.decide({"a": ReplicaReading(**values)}, ["a"], target, float(second))
        target = record.target
    shown = gauges(record)
    assert shown[fleet_metrics.REPLICAS_OVERDUE, ""] == record.overdue == 0
    assert shown[fleet_metrics.REPLICAS_TARGET, ""] == 2
    assert shown[fleet_metrics.REPLICAS_WANTED, ""] == 5
    assert shown[fleet_metrics.REPLICAS_MISSING, ""] == 3
    assert shown[fleet_metrics.REPLICA_DEMAND, "prefill"] == pytest.approx(4.0)
    limited = {one for (metric, one), on in shown.items() if on and metric.labels == ("limit",)}
    assert limited == set(record.allowed.limits)
    assert "3 MISSING" in record.reason
    values = reading | {"sequence": 200.0, "offered_prefill": 40_000.0 * 200}
    late = scaler.decide({"a": ReplicaReading(**values)}, ["a"], target, 200.0)
    assert gauges(late)[fleet_metrics.REPLICAS_OVERDUE, ""] == late.overdue == 1


def test_a_floor_by_hand_outlives_the_log_that_was_told_it(log: Log, clock: Clock) -> None:
    link = scaling_link.ScalingLink("chat")
    link.look()
    floor = (3, clock.now + 600.0)
    log.actor.set_floor(*floor)
    link.look()
    clock.now += 5.0
    log.begin()
    link.look()
    assert link.orders.floor == log.actor.orders().floor == floor
    log.actor.set_floor(0, 0.0)  # taken back by hand: that stays
    link.look()
    assert link.orders.floor is None
