"""A fleet in virtual time and the policies that are compared on it; see `forebay.simulate`.

Everything here is computed, not measured: the same command prints the same table anywhere.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from forebay.engine_model.profile import EngineProfile
from forebay.engine_model.profiles import named_profile
from forebay.policies.autoscaling import Autoscaler
from forebay.policies.decisions import BATCH, INTERACTIVE, AdmissionConfig, ClassPolicy
from forebay.policies.prompt_parts import part_tokens
from forebay.policies.scaling import ScalingConfig
from forebay.policies.scaling_limits import LimitConfig
from forebay.serving.emulated.rates import teach
from forebay.simulate.asks import Ask, Slo
from forebay.simulate.clairvoyant import plan
from forebay.simulate.fleet import Fleet, FleetConfig, FleetRun
from forebay.simulate.other_scalers import QueueConfig, QueueLength, RayConfig, RayDefault
from forebay.simulate.placing import ForebayRouter, LeastOngoing
from forebay.simulate.replica import GatedReplica, OpenReplica
from forebay.simulate.scalers import Planned, Scaler, Static, TokenScaler
from tables import print_table

HEADROOM = 0.2  # Forebay's default
PLAN_WINDOW_S = 30.0
TARGET = 0.97  # attainment that settings are tuned to


@dataclass(frozen=True)
class World:
    """A service, its traffic and its bounds."""

    name: str
    engine: EngineProfile
    slo: Slo
    asks: list[Ask]
    min: int
    max: int
    cold_start_s: float
    cold_start_cv: float = 0.0
    initial: int | None = None
    until_s: float = 0.0
    stable_s: float = 300.0
    seed: int = 1

    @property
    def gate(self) -> AdmissionConfig:
        """Admission as a service file with this SLO sets it."""
        ttft_s = self.slo.ttft_s
        return AdmissionConfig(
            classes={
                INTERACTIVE: ClassPolicy(ttft_s, 2 * ttft_s, 8.0),
                BATCH: ClassPolicy(30.0, 60.0),
            },
            slots=self.engine.max_num_seqs,
            kv_tokens=self.engine.kv_tokens,
            step_tokens=self.engine.max_num_batched_tokens,
            tpot_s=self.slo.tpot_s,
        )


@dataclass(frozen=True)
class Policy:
    """A scaling policy with its settings; `gated`: behind Forebay's gate and router."""

    name: str
    settings: str
    kind: str
    values: dict[str, Any] = field(default_factory=dict)
    gated: bool = True

    def scaler(self, world: World) -> Scaler:
        """Made anew for each run."""
        return _SCALERS[self.kind](world, **self.values)


@dataclass(frozen=True)
class Figures:
    """What one policy did in one world."""

    policy: Policy
    attainment: float
    average: float
    hours: float
    most: int
    ups: int
    downs: int
    shed: int
    late: int
    cpu_s: float

    def row(self) -> tuple[object, ...]:
        """For `HEAD`."""
        return (
            self.policy.name,
            self.policy.settings,
            "yes" if self.policy.gated else "no",
            f"{100 * self.attainment:.2f}",
            f"{self.average:.2f}",
            f"{self.hours:.2f}",
            self.most,
            f"{self.ups} / {self.downs}",
            self.shed,
            self.late,
        )

    def plain(self) -> dict[str, Any]:
        """Values for JSON."""
        return dict(zip(HEAD, self.row(), strict=True))


HEAD = (
    "policy",
    "settings",
    "gate",
    "SLO attained, %",
    "average replicas",
    "replica-hours",
    "most",
    "ups / downs",
    "shed",
    "served late",
)


def served(name: str, slots: int) -> EngineProfile:
    """A profile as Forebay serves it; no prompt is repeated, so none is looked for in a cache."""
    profile = named_profile(name)
    part = part_tokens(profile.max_num_batched_tokens)
    return replace(
        profile, max_num_seqs=slots, prefix_caching=False, long_prefill_token_threshold=part
    )


def ours(world: World, **settings: float) -> TokenScaler:
    config = ScalingConfig(
        **{"headroom": HEADROOM, "tolerated_s": world.slo.ttft_s / 2, **settings}
    )
    limits = LimitConfig(world.min, world.max, stable_s=world.stable_s)
    return TokenScaler(Autoscaler(config, limits, cold_start_s=world.cold_start_s))


def clairvoyant(world: World, busy: float) -> Planned:
    steps = plan(
        world.asks, world.engine, world.engine.max_num_seqs, busy=busy, window_s=PLAN_WINDOW_S
    )
    return Planned(steps, world.cold_start_s + 1.0)


_SCALERS: dict[str, Callable[..., Scaler]] = {
    "ours": ours,
    "ray": lambda world, **values: RayDefault(RayConfig(**values)),
    "queue": lambda world, **values: QueueLength(QueueConfig(**values)),
    "static": lambda world, replicas: Static(replicas),
    "clairvoyant": clairvoyant,
}


def run(world: World, policy: Policy) -> FleetRun:
    """The traffic, to its end."""
    rng = np.random.default_rng(world.seed)
    spread = world.cold_start_cv * world.cold_start_s
    static = policy.values.get("replicas")
    config = FleetConfig(
        min=static or world.min,
        max=static or world.max,
        initial=static or world.initial or world.min,
        cold_start_s=lambda: max(float(rng.normal(world.cold_start_s, spread)), 1.0),
        until_s=0.0 if static else world.until_s,
    )
    make: Callable[[str], OpenReplica] = (
        (lambda name: GatedReplica(name, world.engine, world.gate, teach))
        if policy.gated
        else (lambda name: OpenReplica(name, world.engine))
    )
    router = ForebayRouter(np.random.default_rng(world.seed).random)
    scaler = policy.scaler(world)
    fleet = Fleet(config, make, router if policy.gated else LeastOngoing(), scaler)
    return fleet.run(world.asks)


def figures(world: World, policy: Policy) -> Figures:
    began = time.process_time()
    done = run(world, policy)
    counts = Counter(fate.outcome for fate in done.fates)
    good = sum(map(world.slo.holds, done.fates))
    return Figures(
        policy=policy,
        attainment=good / len(done.fates),
        average=done.average_replicas,
        hours=done.replica_seconds / 3600,
        most=max(moment.existing for moment in done.moments),
        ups=sum(by > 0 for _, by in done.changes),
        downs=sum(by < 0 for _, by in done.changes),
        shed=len(done.fates) - counts["ok"],
        late=counts["ok"] - good,
        cpu_s=time.process_time() - began,
    )


def _figures(both: tuple[World, Policy]) -> Figures:
    return figures(*both)


@contextmanager
def running(jobs: int) -> Iterator[Callable[[World, Sequence[Policy]], list[Figures]]]:
    """A function that runs policies in a world, `jobs` at a time."""
    if jobs <= 1:
        yield lambda world, policies: [figures(world, policy) for policy in policies]
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield lambda world, policies: list(pool.map(_figures, [(world, p) for p in policies]))


def tuned(found: Sequence[Figures]) -> Figures:
    """The cheapest that attains the target; where none does, the one that attains most."""
    enough = [one for one in found if one.attainment >= TARGET]
    if enough:
        return min(enough, key=lambda one: one.hours)
    return max(found, key=lambda one: one.attainment)


def show(title: str, found: Sequence[Figures]) -> None:
    print(f"\n{title}")
    print_table(HEAD, [one.row() for one in found])


# --- what is searched ---------------------------------------------------------------------------

OURS = Policy("Forebay", "its defaults", "ours")


def ray_settings(targets: Sequence[float], *, wide: bool = True) -> list[Policy]:
    """Ray's default policy: targets, with its own delays and with quicker ones."""
    delays = [(30.0, 600.0), (0.0, 300.0)] if wide else [(0.0, 300.0)]
    return [
        Policy(
            "Ray Serve's default",
            f"target {target:g}, up {up:g} s, down {down:g} s",
            "ray",
            {"target_ongoing": target, "up_delay_s": up, "down_delay_s": down},
            gated,
        )
        for gated in (True, False)
        for up, down in delays
        for target in targets
    ]


def queue_settings(waiting: Sequence[float], in_flight: Sequence[float]) -> list[Policy]:
    """KEDA on vLLM's queue, on requests in flight, and with llm-d's two triggers."""
    found = []
    for gated in (True, False):
        for count in waiting:
            values: dict[str, Any] = {"per_replica": count}
            found.append(Policy("queue length", f"{count:g} waiting", "queue", values, gated))
        for count in in_flight:
            values = {"per_replica": count, "counted": "ongoing"}
            found.append(Policy("queue length", f"{count:g} in flight", "queue", values, gated))
            values = {"per_replica": 1.0, "counted": "either", "running_per_replica": count}
            text = f"1 waiting or {count:g} running"
            found.append(Policy("queue length", text, "queue", values, gated))
    return found


def static(replicas: int) -> Policy:
    return Policy(f"static {replicas}", "", "static", {"replicas": replicas})


def plans(shares: Sequence[float]) -> list[Policy]:
    return [
        Policy("clairvoyant least", f"busy {share:g}", "clairvoyant", {"busy": share})
        for share in shares
    ]
