"""Several routers before a toy fleet, compared with an oracle that knows every queue and cache."""

from __future__ import annotations

from itertools import cycle
from random import Random

import pytest
from toy_fleet import (
    PERIOD_S,
    Replica,
    Send,
    conversations,
    hit_share,
    imbalance,
    oracle,
    run,
)

from forebay.policies.routing import Prompt, ReplicaStats, RoutingPolicy


class Routers:
    """Routers that are asked in turn, as the proxy does, and hear nothing of each other."""

    def __init__(self, count: int) -> None:
        self.all = [RoutingPolicy(PERIOD_S, Random(n).random, count) for n in range(count)]
        self._turns = cycle(self.all)

    def choose(self, fleet: dict[str, Replica], prompt: Prompt, now: float) -> str:
        return next(self._turns).choose(list(fleet), prompt, now)

    def publish(self, name: str, stats: ReplicaStats, now: float) -> None:
        for router in self.all:
            router.publish(name, stats, now)


def served_by(count: int, sends: list[Send]) -> list[Replica]:
    routers = Routers(count)
    fleet = run(sends, routers.choose, routers.publish)
    for router in routers.all:
        router.check_integrity()
    return fleet


@pytest.mark.parametrize("routers", [1, 2, 4])
@pytest.mark.parametrize(("count", "within"), [(600, 0.04), (1_500, 0.02)])
def test_conversations_hit_about_as_often_as_with_full_knowledge(
    routers: int, count: int, within: float
) -> None:
    sends = conversations(Random(1), count, 60.0)
    best = hit_share(run(sends, oracle))
    assert best > 0.7
    fleet = served_by(routers, sends)
    assert hit_share(fleet) > best - within
    if count == 1_500:  # the other leaves the fleet idle for three quarters of the time
        assert imbalance(fleet) < 1.3
