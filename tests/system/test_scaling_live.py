"""A fleet of emulated replicas that grows and shrinks under real Ray Serve."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scaling_service import COLD_START_S, eventually, load, replicas, scaling_service, status
from serving_process import ServingProcess

RATE = 16.0  # requests/s; 400 tokens each


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    with scaling_service(tmp_path_factory.mktemp("scaling")) as serving:
        yield serving


def test_the_fleet_grows_under_load_and_shrinks_after_it(service: ServingProcess) -> None:
    assert eventually(lambda: replicas(service) == 1)
    with load(service, RATE) as statuses:
        grown = eventually(lambda: replicas(service) == 4)
        missing = eventually(lambda: status(service)["scaling"][-1]["allowed"]["missing"] > 0, 30)
    told = status(service)
    assert grown, told["scaling"]
    assert missing, told["scaling"]
    assert set(statuses) <= {200, 429}
    assert eventually(lambda: replicas(service) == 1), status(service)["scaling"]


def test_a_replica_tells_the_phases_of_its_start(service: ServingProcess) -> None:
    told = status(service)["replicas"][0]["start_s"]
    engine = told["weights"] + told["compile"] + told["warm_up"]
    assert engine >= COLD_START_S
    assert told["image"] > 0
