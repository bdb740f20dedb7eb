"""`forebay serve` on a Ray cluster that runs already: used, left running, and left clean."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml
from eventually import eventually
from ray_cluster import Cluster
from serving_process import ENGINE_SERVICE, free_port, port_is_free, started

from forebay.spec.tenants import key_hash, new_key


def with_keys(folder: Path, key: str) -> Path:
    """The file of a service with one tenant, whose model is compiled, as by default."""
    lab = {"name": "lab", "key_hashes": [key_hash(key)]}
    (folder / "tenants.yaml").write_text(yaml.safe_dump({"tenants": [lab]}))
    spec = {**yaml.safe_load(ENGINE_SERVICE.read_text()), "tenants": "tenants.yaml"}
    del spec["model"]["engine_args"]["enforce_eager"]
    file = folder / "keyed.yaml"
    file.write_text(yaml.safe_dump(spec))
    return file


@pytest.mark.slow
def test_a_running_cluster_is_used_and_left_as_it_was(cluster: Cluster, tmp_path: Path) -> None:
    file = with_keys(tmp_path, key := new_key())
    with started(file, tmp_path, ray_address=f"127.0.0.1:{cluster.port}") as serving:
        serving.wait_for("Ctrl-C drains")
        assert cluster.names_of("VLLM::EngineCore"), "the engine does not run in the cluster"
        body = {"model": "demo", "prompt": "river", "max_tokens": 4}
        request = urllib.request.Request(
            f"{serving.url}/v1/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["usage"]["completion_tokens"] == 4
        # The engine's replica is in a placement group that has no room for anything else.
        assert eventually(lambda: bool(cluster.names_of("FleetActor")), within_s=60), "no ledger"
        assert serving.interrupt() == 0, "\n".join(serving.lines[-40:])
        assert serving.leftovers() == []
        assert port_is_free(serving.port)
        assert cluster.names_of("raylet"), "the cluster was ended with the service"
        assert cluster.names_of("VLLM") == cluster.names_of("ServeReplica") == []
        assert eventually(lambda: not cluster.names_of("FleetActor")), "the ledger was left"


OTHER = """
import sys, time, ray
from ray import serve

ray.init(address=sys.argv[1], log_to_driver=False)

@serve.deployment(ray_actor_options={"num_cpus": 0})
class Other:
    pass

if sys.argv[2] == "start":
    serve.start(http_options={"port": int(sys.argv[3])})
    serve.run(Other.bind(), name="other", route_prefix="/")
else:
    print([name for name, app in serve.status().applications.items() if app.status == "RUNNING"])
    serve.shutdown()
"""


def other(cluster: Cluster, what: str) -> str:
    """Another application of Serve's on the cluster: started, or told of and ended."""
    command = [sys.executable, "-c", OTHER, f"127.0.0.1:{cluster.port}", what, str(free_port())]
    env = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    return subprocess.run(command, env=env, check=True, text=True, capture_output=True).stdout


@pytest.mark.slow
def test_what_the_cluster_serves_already_is_refused_and_survives(
    cluster: Cluster, tmp_path: Path
) -> None:
    other(cluster, "start")
    with started(ENGINE_SERVICE, tmp_path, ray_address=f"127.0.0.1:{cluster.port}") as serving:
        serving.wait_for("Ray Serve runs on the cluster", timeout_s=60)
        assert serving.process.wait(timeout=60) == 3
    assert "['other']" in other(cluster, "end")


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with started(ENGINE_SERVICE, tmp_path, ray_address=address) as serving:
        serving.wait_for(f"server.ray_address.*{address}", timeout_s=30)
        assert serving.process.wait(timeout=30) == 3
