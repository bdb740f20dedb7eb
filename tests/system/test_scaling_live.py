"""A fleet of emulated replicas that grows and shrinks under real Ray Serve."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from eventually import eventually
from scaling_service import (
    COLD_START_S,
    SERVICE,
    load,
    replicas,
    scaling_service,
    status,
)
from serving_process import FOREBAY, ServingProcess

from forebay.load.results import read_decisions

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


def test_a_floor_by_hand_holds_until_it_is_taken_back(service: ServingProcess) -> None:
    def scale(least: str) -> str:
        command = [FOREBAY, "scale", str(service.file), "--min", least]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "scaling: at least 2 replicas until" in scale("2")
    assert eventually(lambda: replicas(service) == 2), status(service)["scaling"]
    scale("0")
    assert eventually(lambda: replicas(service) == 1), status(service)["scaling"]


def test_a_load_test_records_the_decisions_for_a_replay(
    service: ServingProcess, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    # fmt: off
    load_it = [
        FOREBAY, "load", service.url, "--rate", "4/s", "--for", "8s", "--prompt-tokens", "200",
        "--output-tokens", "4", "--output", str(run), "--json",
    ]
    # fmt: on
    loaded = subprocess.run(load_it, capture_output=True, text=True, check=False)
    decisions = read_decisions(run)
    assert len(decisions) >= 4, loaded.stderr
    assert decisions[-1]["seen"]["demand"]["prefill"] > 0
    file = tmp_path / "other.yaml"
    scaling = {**SERVICE["scaling"], "headroom": 0.6}
    file.write_text(yaml.safe_dump({**SERVICE, "scaling": scaling}))
    replay = [FOREBAY, "scale", str(file), "--replay", str(run), "--json"]
    told = json.loads(subprocess.run(replay, capture_output=True, text=True, check=True).stdout)
    assert len(told["looks"]) == len(decisions)
    assert [look["then"][0] for look in told["looks"]] == [one["target"] for one in decisions]
    assert (run / "scaling-replay.html").stat().st_size > 5_000
