"""Replicas that ask for nodes, and nodes that come, go and die, under Ray's own autoscaler."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from eventually import eventually
from ray_nodes import RayNodes
from scaling_service import SERVICE, ask, load, replicas, status
from serving_process import ServingProcess, running

MOST = 3
RATE = 16.0  # requests/s of 400 tokens: more than all of them carry
IDLE_S = 6.0
ROUTERS = 2


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    pytest.importorskip("ray")
    made = RayNodes(most=MOST, idle_s=IDLE_S)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def service(nodes: RayNodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    """One to three replicas, each of which takes a node."""
    folder = tmp_path_factory.mktemp("nodes")
    spec = {
        **SERVICE,
        "name": "nodes",
        "hardware": {"cpus_per_replica": 1},
        "scaling": {**SERVICE["scaling"], "max": MOST, "stable": "8s", "drain": "10s"},
    }
    file = folder / "nodes.yaml"
    file.write_text(yaml.safe_dump(spec))
    with running(
        file, folder, ray_address=nodes.address, proxies="head", routers=ROUTERS
    ) as serving:
        yield serving


def has(nodes: RayNodes, service: ServingProcess, count: int) -> bool:
    """Whether so many nodes run and as many replicas serve."""
    return len(nodes.nodes()) == count and replicas(service) == count


def is_served(statuses: list[int]) -> bool:
    """Whether ten more requests are answered within 20 s."""
    served = statuses.count(200)
    return eventually(lambda: statuses.count(200) > served + 10, 20)


@pytest.mark.slow
def test_nodes_come_for_demand_one_is_replaced_when_killed_and_idle_ones_retire(
    nodes: RayNodes, service: ServingProcess
) -> None:
    """One load for all of it: to grow takes most of a minute."""
    assert eventually(lambda: has(nodes, service, 1))
    with load(service, RATE) as statuses:
        assert eventually(lambda: has(nodes, service, MOST)), (nodes.nodes(), status(service))
        assert len(nodes.of_head("ForebayIngress")) == ROUTERS, "where no other node takes it along"
        killed = min(nodes.nodes())
        nodes.kill(killed)
        assert eventually(lambda: replicas(service) < MOST)
        assert is_served(statuses)
        assert eventually(lambda: has(nodes, service, MOST)), (nodes.nodes(), status(service))
        assert killed not in nodes.nodes()
        failed = len([one for one in statuses if one not in (200, 429)])
        assert is_served(statuses)
    since = [one for one in statuses if one not in (200, 429)]
    assert len(since) == failed, since
    assert status(service)["scaling"], "the decisions were lost with the node"
    assert eventually(lambda: has(nodes, service, 1)), (nodes.nodes(), status(service))
    assert ask(service, 1)[0] == 200
