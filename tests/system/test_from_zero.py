"""A fleet that goes away when nobody asks, and comes back when somebody does."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from eventually import eventually
from scaling_service import ask, replicas, scaling_service, status
from serving_process import ServingProcess

MOST_TRIES = 5


def asleep(service: ServingProcess) -> bool:
    """Whether the front door answers for a fleet of none."""
    told = status(service)
    return bool(told["scaling"]) and not told["replicas"] and told["scaling"][-1]["target"] == 0


@pytest.mark.slow
def test_who_obeys_the_retry_after_of_a_fleet_of_none_is_served(tmp_path: Path) -> None:
    with scaling_service(tmp_path, min=0, stable="5s") as service:
        assert ask(service, 1)[0] == 200  # the first replica came with the service
        assert eventually(lambda: asleep(service)), status(service)
        refused, headers = ask(service, 2)
        assert refused == 503
        assert int(headers["retry-after"]) >= 1
        tries = 0
        while refused == 503 and tries < MOST_TRIES:
            time.sleep(int(headers["retry-after"]))
            refused, headers = ask(service, 2)
            tries += 1
        assert refused == 200, status(service)
        assert eventually(lambda: replicas(service) == 1)
        assert any("woken" in one["allowed"]["limits"] for one in status(service)["scaling"])
        assert eventually(lambda: asleep(service)), status(service)
