"""A fleet in virtual time and the policies that are compared on it; see `forebay.simulate`.

Everything here is computed, not measured: the same command prints the same table anywhere.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from forebay.engine_model import EngineProfile, named_profile
from forebay.policies.request import BATCH, INTERACTIVE, AdmissionConfig, ClassPolicy, part_tokens
from forebay.policies.scaling import Autoscaler, LimitConfig, ScalingConfig
from forebay.serving.emulated import teach
from forebay.simulate import (
    Fleet,
    FleetConfig,
    FleetRun,
    ForebayRouter,
    GatedReplica,
    LeastOngoing,
    OpenReplica,
    Planned,
    QueueConfig,
    QueueLength,
    RayConfig,
    RayDefault,
    Scaler,
    SimRequest,
    Slo,
    Static,
    TokenScaler,
    plan,
)
from tables import print_table

HEADROOM, STABLE_S = 0.2, 300.0  # Forebay's defaults: scaling.headroom, scaling.stable
PLAN_WINDOW_S = 30.0
TARGET = 0.97  # attainment that settings are tuned to


@dataclass(frozen=True)
class World:
    """A service, its traffic and its bounds."""

    name: str
    engine: EngineProfile
    slo: Slo
    asks: list[SimRequest]
    min: int
    max: int
    cold_start_s: float
    cold_start_cv: float = 0.0
    initial: int | None = None
    until_s: float = 0.0
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
    return replace(profile.with_forebay_scheduler(part), max_num_seqs=slots, prefix_caching=False)


def ours(world: World, headroom: float = HEADROOM, stable_s: float = STABLE_S) -> TokenScaler:
    """As `serving/scaling/scaling_policy.py` makes it of a service's file."""
    config = ScalingConfig(headroom=headroom, tolerated_s=world.slo.ttft_s / 2)
    limits = LimitConfig(world.min, world.max, stable_s=stable_s)
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


Play = Callable[[World, Sequence[Policy]], list[Figures]]


@contextmanager
def running(jobs: int) -> Iterator[Play]:
    """A function that runs policies in a world, `jobs` at a time, and tells each as it ends.

    What has been run before is known: the same policy in the same world does the same.
    """
    known: dict[tuple[str, int, str], Figures] = {}
    with ProcessPoolExecutor(jobs) as pool:

        def play(world: World, policies: Sequence[Policy]) -> list[Figures]:
            keys = [(world.name, world.seed, repr(policy)) for policy in policies]
            new = [p for key, p in zip(keys, policies, strict=True) if key not in known]
            for one in pool.map(_figures, [(world, policy) for policy in new]):
                told = [str(part) for part in one.row()[:6] if part]
                print("  " + " | ".join(told), f"({one.cpu_s:.0f} s)", file=sys.stderr, flush=True)
                known[world.name, world.seed, repr(one.policy)] = one
            return [known[key] for key in keys]

        yield play


def tuned(found: Sequence[Figures], target: float = TARGET) -> Figures:
    """The cheapest that attains the target; where none does, the one that attains most."""
    enough = [one for one in found if one.attainment >= target]
    if enough:
        return min(enough, key=lambda one: one.hours)
    return max(found, key=lambda one: one.attainment)


def show(title: str, found: Sequence[Figures]) -> None:
    print(f"\n{title}")
    print_table(HEAD, [one.row() for one in found])


# --- what is searched ---------------------------------------------------------------------------


def ours_with(headroom: float = HEADROOM, stable_s: float = STABLE_S) -> Policy:
    text = f"headroom {headroom:.0%}, stable {stable_s / 60:g} min"
    return Policy("Forebay", text, "ours", {"headroom": headroom, "stable_s": stable_s})


OURS = ours_with()


def ray(target: float, up_s: float, down_s: float, *, gated: bool) -> Policy:
    return Policy(
        "Ray Serve's default",
        f"target {target:g}, up {up_s:g} s, down {down_s:g} s",
        "ray",
        {"target_ongoing": target, "up_delay_s": up_s, "down_delay_s": down_s},
        gated,
    )


def search_ray(play: Play, world: World, targets: Sequence[float]) -> list[Figures]:
    """Ray's default policy: targets, then other delays at the best of them.

    Both without and with Forebay's gate and router. Its own delays are 30 s up and 600 s down.
    """
    found = []
    for gated in (False, True):
        first = play(world, [ray(target, 0.0, 300.0, gated=gated) for target in targets])
        target = tuned(first).policy.values["target_ongoing"]
        delays = ((0.0, 180.0), (30.0, 180.0), (60.0, 180.0), (30.0, 600.0))
        found += first
        found += play(world, [ray(target, up, down, gated=gated) for up, down in delays])
    return found


def queue(*, gated: bool, stable_s: float = 300.0, **values: Any) -> Policy:
    """KEDA on vLLM's queue, on requests in flight, or with llm-d's two triggers."""
    count, counted = values["per_replica"], values.get("counted", "waiting")
    texts = {
        "waiting": f"{count:g} waiting",
        "ongoing": f"{count:g} in flight",
        "either": f"{count:g} waiting or {values.get('running_per_replica', 0):g} running",
    }
    text = f"{texts[counted]}, stable {stable_s / 60:g} min"
    return Policy("queue length", text, "queue", {**values, "stable_s": stable_s}, gated)


def search_queue(
    play: Play, world: World, waiting: Sequence[float], in_flight: Sequence[float]
) -> list[Figures]:
    """A queue length: what is counted and how many, then a shorter window at the best of them.

    Both without and with Forebay's gate and router.
    """
    kinds: list[dict[str, Any]] = [{"per_replica": count} for count in waiting]
    for count in in_flight:
        kinds.append({"per_replica": count, "counted": "ongoing"})
        kinds.append({"per_replica": 1.0, "counted": "either", "running_per_replica": count})
    found = []
    for gated in (False, True):
        first = play(world, [queue(gated=gated, **values) for values in kinds])
        best = tuned(first).policy.values
        found += first + play(world, [queue(gated=gated, **{**best, "stable_s": 180.0})])
    return found


def static(replicas: int) -> Policy:
    return Policy(f"static {replicas}", "", "static", {"replicas": replicas})


def plans(shares: Sequence[float]) -> list[Policy]:
    return [
        Policy("clairvoyant least", f"busy {share:g}", "clairvoyant", {"busy": share})
        for share in shares
    ]
