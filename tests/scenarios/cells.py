"""What the net plays: each cell is a promise on an engine, with figures and all its decisions.

A cell's figures are those that a user feels. `good` counts requests whose first token came within
the budget of their class, in what the engine finishes when it never lacks any. Seconds are virtual.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import fleets
import worlds
from one_replica import poisson
from worlds import CLASSES, ENGINES, Ask, Engine, Fate

from forebay.measure.percentiles import percentile
from forebay.policies.request import BATCH, INTERACTIVE

SHAPES = {"short": (182, 48), "long-prompts": (1442, 48), "long-outputs": (60, 400)}
OFFERED = 500  # requests at 1 x


@dataclass(frozen=True)
class Played:
    """What came of one run of a cell.

    Attributes:
        figures: by name.
        digest: of every decision and every first token, in order.
        decisions: how many there were.
        broken: promises that did not hold, in words.
    """

    figures: dict[str, float]
    digest: str
    decisions: int
    broken: tuple[str, ...] = ()


@dataclass
class Book:
    """Every decision of a run, in order."""

    lines: list[str] = field(default_factory=list)

    def enter(self, fates: Iterable[Fate]) -> None:
        """The decision on each request, and when its first token came, to nine digits."""
        for fate in fates:
            if fate.shed is not None:
                numbers = [fate.shed.predicted_s, fate.shed.retry_after_s]
                self.lines.append(f"{fate.shed.reason} {_digits(numbers)}")
            else:
                self.lines.append(f"admitted {_digits([fate.predicted_s, fate.first_at])}")

    def played(self, figures: dict[str, float], broken: Sequence[str] = ()) -> Played:
        """What is kept of it."""
        digest = hashlib.sha256("\n".join(self.lines).encode()).hexdigest()[:16]
        kept = {name: float(f"{value:.6g}") for name, value in figures.items()}
        return Played(kept, digest, len(self.lines), tuple(broken))


def _digits(values: Iterable[float | None]) -> str:
    return " ".join("-" if value is None else f"{value:.9g}" for value in values)


def _played(fates: Sequence[Fate], figures: dict[str, float], broken: Sequence[str] = ()) -> Played:
    book = Book()
    book.enter(fates)
    return book.played(figures, [*broken, *lost(fates)])


def lost(fates: Iterable[Fate]) -> list[str]:
    """Nothing that was admitted is forgotten: it is closed, however it ended."""
    open_ones = sum(fate.ticket is not None and not fate.ticket.closed for fate in fates)
    return [f"{open_ones} admitted requests were never ended"] if open_ones else []


# --- figures ------------------------------------------------------------------------------------


def ttft(fates: Iterable[Fate], rank: float) -> float:
    """Percentile of the seconds to the first token, of those that got one; 0 without any."""
    return percentile([f.ttft_s for f in fates if f.ttft_s is not None], rank) or 0.0


def usual(
    fates: Sequence[Fate], engine: Engine, capacity: float, seconds: float
) -> dict[str, float]:
    """Figures of one class under load."""
    served = [fate for fate in fates if fate.first_at is not None]
    error, bias = prediction(served)
    return {
        "good": sum(fate.good for fate in fates) / seconds / capacity,
        "ttft_p50": ttft(fates, 50),
        "ttft_p99": ttft(fates, 99),
        "tpot_p99": percentile(paces(served), 99) or 0.0,
        "shed": sum(fate.shed is not None for fate in fates) / len(fates),
        "aborted": sum(f.ticket is not None and f.first_at is None for f in fates) / len(fates),
        "error": error,
        "bias": bias,
    }


def paces(fates: Iterable[Fate]) -> list[float]:
    """Seconds per token after the first."""
    found = []
    for fate in fates:
        made = fate.ticket.sequences[0].produced if fate.ticket is not None else 0
        if made > 1 and fate.ended_at is not None and fate.first_at is not None:
            found.append((fate.ended_at - fate.first_at) / (made - 1))
    return found


def prediction(served: Sequence[Fate]) -> tuple[float, float]:
    """Median relative error of predicted TTFT, and the bias of the sums; (0, 0) without any."""
    pairs = [(f.predicted_s, f.ttft_s) for f in served if f.predicted_s and f.ttft_s]
    if not pairs:
        return 0.0, 0.0
    errors = [abs(said - came) / came for said, came in pairs]
    bias = sum(said for said, _ in pairs) / sum(came for _, came in pairs) - 1
    return percentile(errors, 50) or 0.0, bias


# --- one replica --------------------------------------------------------------------------------


def load(engine: str, workload: str, factor: float, seed: int) -> Played:
    """A workload at a multiple of the capacity."""
    on, sizes = ENGINES[engine], list(SHAPES.values())
    rates = {name: on.capacity(*shape) for name, shape in SHAPES.items()}
    mixed = len(rates) / sum(1 / rate for rate in rates.values())
    capacity = {**rates, "mix": mixed}.get(workload, (rates["short"] + rates["long-prompts"]) / 2)
    seconds = OFFERED / capacity

    def asks(start: float) -> list[Ask]:
        if workload == "shift":
            half = partial(poisson, seconds=seconds / 2, seed=seed)
            first = half(factor * rates["short"], prompt=182, answer=48, start=start)
            then = start + seconds / 2
            return first + half(factor * rates["long-prompts"], prompt=1442, answer=48, start=then)
        if workload != "mix":
            prompt, answer = SHAPES[workload]
            return poisson(factor * capacity, seconds, prompt, answer, start=start, seed=seed)
        rng = random.Random(seed)
        drawn = poisson(factor * capacity, seconds, 1, 1, start=start, seed=seed)
        picked = [(ask, rng.choice(sizes)) for ask in drawn]
        return [replace(ask, prompt=size[0], answer=size[1]) for ask, size in picked]

    fates = worlds.served(on, asks, seed)
    figures = usual(fates, on, capacity, seconds)
    broken = []
    if engine in STANDARD and figures["ttft_p99"] > CLASSES[INTERACTIVE].ttft_s:
        broken.append(f"TTFT p99 {figures['ttft_p99']:.2f} s, and 1 s is promised")
    return _played(fates, figures, broken)


def neighbour(engine: str, seed: int) -> Played:
    """One tenant asks for half of its share, another for ten times all there is."""
    on, shape = ENGINES[engine], SHAPES["long-outputs"]
    rate = on.capacity(*shape)
    seconds = 300 / rate

    def asks(start: float) -> list[Ask]:
        modest = poisson(0.25 * rate, seconds, *shape, start=start, seed=seed, tenant="modest")
        greedy = poisson(10 * rate, seconds, *shape, start=start, seed=seed + 1, tenant="greedy")
        return modest + greedy

    fates = worlds.served(on, asks, seed, weights={"modest": 1.0, "greedy": 1.0})
    modest = [fate for fate in fates if fate.ask.tenant == "modest"]
    kept = sum(fate.good for fate in modest) / len(modest)
    figures = {"kept": kept, "ttft_p99": ttft(modest, 99)}
    broken = [f"the neighbour keeps {kept:.2f}"] if kept < 0.95 else []
    return _played(fates, figures, broken)


def weights(engine: str, seed: int) -> Played:
    """Two tenants of weights 3 and 1, both of whom ask for more than there is."""
    on, shape = ENGINES[engine], SHAPES["short"]
    rate = on.capacity(*shape)
    seconds = 2_000 / rate

    def asks(start: float) -> list[Ask]:
        found: list[Ask] = []
        for number, name in enumerate(("three", "one")):
            more = {"start": start, "seed": seed + number, "tenant": name}
            found += poisson(2 * rate, seconds, *shape, **more)  # type: ignore[arg-type]
        return found

    fates = worlds.served(on, asks, seed, weights={"three": 3.0, "one": 1.0})
    served = {
        name: sum(f.ended_at is not None for f in fates if f.ask.tenant == name)
        for name in ("three", "one")
    }
    ratio = served["three"] / max(served["one"], 1)
    broken = [f"weights 3:1 give {ratio:.2f}:1"] if not 2.7 <= ratio <= 3.3 else []
    return _played(fates, {"ratio": ratio, "ttft_p99": ttft(fates, 99)}, broken)


def flood(engine: str, workload: str, seed: int) -> Played:
    """Interactive requests at 0.4 of the capacity, beside batch that asks for three times that."""
    on, shape = ENGINES[engine], SHAPES[workload]
    rate = on.capacity(*shape)
    seconds = 500 / rate

    def interactive(start: float) -> list[Ask]:
        return poisson(0.4 * rate, seconds, *shape, start=start, seed=seed)

    def both(start: float) -> list[Ask]:
        batch = poisson(3 * rate, seconds, *shape, start=start, seed=seed + 1, class_name=BATCH)
        return interactive(start) + batch

    alone = worlds.served(on, interactive, seed)
    fates = worlds.served(on, both, seed)
    mine = [fate for fate in fates if fate.ask.class_name == INTERACTIVE]
    rest = [fate for fate in fates if fate.ask.class_name == BATCH]
    until = max(fate.ask.at for fate in fates)
    done = sum(fate.ended_at is not None and fate.ended_at <= until for fate in rest)
    figures = {
        "ttft_p95_times_alone": ttft(mine, 95) / ttft(alone, 95),
        "refused": sum(fate.shed is not None for fate in mine) / len(mine),
        "batch_uses": done / seconds / (0.6 * rate),
        "batch_ttft_p99": ttft(rest, 99),
    }
    return _played([*alone, *fates], figures)


def giants(engine: str, seed: int) -> Played:
    """Very long prompts every ten seconds, among usual ones at 0.6 of the capacity."""
    on = ENGINES[engine]
    rate, seconds = on.capacity(*SHAPES["short"]), 60.0
    tokens = min(16 * on.profile.max_num_batched_tokens, on.profile.max_model_len - 100)

    def asks(start: float) -> list[Ask]:
        usual_ones = poisson(0.6 * rate, seconds, *SHAPES["short"], start=start, seed=seed)
        return usual_ones + [Ask(start + 5 + 10 * number, tokens, 48) for number in range(5)]

    fates = worlds.served(on, asks, seed)
    theirs = [fate for fate in fates if fate.ask.prompt == tokens]
    others = [fate for fate in fates if fate.ask.prompt != tokens]
    figures = {
        "served": sum(fate.first_at is not None for fate in theirs) / len(theirs),
        "ttft_p50": ttft(theirs, 50),
        "others_ttft_p99": ttft(others, 99),
        "others_shed": sum(fate.shed is not None for fate in others) / len(others),
    }
    return _played(fates, figures)


def burst(engine: str, seed: int) -> Played:
    """Twice as many as there are slots at one moment, on a replica at 0.5 of its capacity."""
    on = ENGINES[engine]
    rate, seconds = on.capacity(*SHAPES["short"]), 20.0

    def asks(start: float) -> list[Ask]:
        rest = poisson(0.5 * rate, seconds, *SHAPES["short"], start=start, seed=seed)
        at_once = 2 * on.profile.max_num_seqs * [Ask(start + 5.0, *SHAPES["short"])]
        return rest + at_once

    fates = worlds.served(on, asks, seed)
    start = min(fate.ask.at for fate in fates)
    after = [fate for fate in fates if fate.ask.at > start + 10.0]
    return _played(
        fates,
        {
            "good": sum(fate.good for fate in fates) / len(fates),
            "ttft_p99": ttft(fates, 99),
            "after_ttft_p99": ttft(after, 99),
            "after_shed": sum(fate.shed is not None for fate in after) / len(after),
        },
    )


def retries(engine: str, seed: int) -> Played:
    """Clients at 3 x the capacity who wait for as long as they are told and come twice again."""
    on = ENGINES[engine]
    rate = on.capacity(*SHAPES["short"])
    seconds = OFFERED / rate

    def asks(start: float) -> list[Ask]:
        return poisson(3 * rate, seconds, *SHAPES["short"], start=start, seed=seed)

    made = worlds.obeying(on, asks, seed, attempts=3)
    fates = [fate for attempts in made for fate in attempts]
    budget_s = CLASSES[INTERACTIVE].ttft_s
    in_time = sum(
        last.first_at is not None and last.first_at - first.ask.at <= budget_s
        for first, last in ((attempts[0], attempts[-1]) for attempts in made)
    )
    return _played(
        fates,
        {
            "good": in_time / seconds / rate,
            "attempts": len(fates) / len(made),
            "served": sum(attempts[-1].first_at is not None for attempts in made) / len(made),
            "ttft_p99": ttft(fates, 99),
        },
    )


# --- fleets -------------------------------------------------------------------------------------


def quota(seed: int) -> Played:
    """Eight replicas; a tenant with a quota asks for five times that, beside one without."""
    per_minute, seconds = 600_000, 150.0
    asks = poisson(45.0, seconds, 1000, 100, start=0.0, seed=seed, tenant="limited")
    asks += poisson(60.0, seconds, 1000, 100, start=0.0, seed=seed + 1, tenant="free")
    fates = worlds.fleet({"limited": {"tokens_per_minute": per_minute}, "free": {}}, asks)
    used = [f.ask for f in fates if f.ask.tenant == "limited" and f.ticket is not None]
    worst = max(
        sum(ask.prompt + ask.answer for ask in used if at <= ask.at < at + 60.0)
        for at in range(int(seconds) - 60)
    )
    free = [fate for fate in fates if fate.ask.tenant == "free"]
    figures = {
        "of_quota": worst / per_minute,
        "free_good": sum(fate.good for fate in free) / len(free),
    }
    broken = [f"{worst} tokens in a minute of {per_minute}"] if worst > 1.001 * per_minute else []
    fates.sort(key=lambda fate: (fate.ask.at, fate.ask.tenant))
    return _played(fates, figures, broken)


def conversations(salted: bool, seed: int) -> Played:
    """Conversations on eight replicas, each of which keeps what it has computed."""
    return _of_fleet(*fleets.conversations(salted=salted, seed=seed))


def scaling(traffic: str, seed: int) -> Played:
    """A fleet that grows and shrinks by what is offered."""
    return _of_fleet(*fleets.scaling(traffic, seed))


def _of_fleet(lines: list[str], figures: dict[str, float]) -> Played:
    return Book(lines).played(figures)


# --- all of them --------------------------------------------------------------------------------

STANDARD = ("demo", "l4-8b", "h100-8b", "h100-70b-tp4")
ODD = ("h100-8b-speculative", "h100-70b-pipelined")
_MAIN = ("demo", "h100-8b")

Cell = Callable[[int], Played]


def cells() -> dict[str, tuple[Cell, int]]:
    """Every cell by name, and on how many seeds it is played."""
    found: dict[str, tuple[Cell, int]] = {}
    for engine in (*STANDARD, *ODD):
        every = engine in _MAIN
        for workload in (*SHAPES, "mix", "shift") if every else SHAPES:
            for factor in (1, 3, 4) if every else (1, 3):
                name = f"load {engine} {workload} {factor}x"
                found[name] = partial(load, engine, workload, factor), 2
        found[f"giants {engine}"] = partial(giants, engine), 2
        found[f"burst {engine}"] = partial(burst, engine), 2
    for engine in _MAIN:
        found[f"load {engine} short 0.5x"] = partial(load, engine, "short", 0.5), 2
        found[f"neighbour {engine}"] = partial(neighbour, engine), 3
        found[f"weights {engine}"] = partial(weights, engine), 2
        found[f"retries {engine}"] = partial(retries, engine), 3
        for workload in SHAPES:
            found[f"flood {engine} {workload}"] = partial(flood, engine, workload), 2
    found["quota fleet"] = quota, 2
    for salted in (False, True):
        name = f"conversations {'tenants' if salted else 'shared'}"
        found[name] = partial(conversations, salted), 2
    for traffic in fleets.TRAFFIC:
        found[f"scaling {traffic}"] = partial(scaling, traffic), 2 if traffic == "ramp" else 1
    if not fleets.TRACE.exists():
        del found["scaling trace"]
    return found
