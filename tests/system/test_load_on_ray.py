"""`forebay load --ray`: workers as actors of a cluster, their records merged as one run's."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from ray_cluster import Cluster
from serving_process import FOREBAY

from forebay.load.results import read_run
from forebay.mock.mock_process import mock_process

SECONDS = 3


@pytest.mark.slow
def test_two_workers_of_a_cluster_offer_what_one_process_would(
    cluster: Cluster, tmp_path: Path
) -> None:
    offered = {}
    with mock_process({"ttft": "5ms", "itl": "1ms"}) as mock:
        for name, where in (
            ("here", []),
            ("cluster", ["--ray", f"127.0.0.1:{cluster.port}", "--workers", "2"]),
        ):
            command = [FOREBAY, "load", mock.url, "--rate", "40/s", "--for", f"{SECONDS}s"]
            command += ["--prompt-tokens", "9", "--output-tokens", "3", "--seed", "5", "--json"]
            done = subprocess.run(
                [*command, "--output", str(tmp_path / name), *where],
                capture_output=True,
                text=True,
                timeout=120,
                env={**os.environ, "RAY_AUTH_MODE": "disabled"},
            )
            assert done.returncode in (0, 3), done.stderr  # 3: this machine was too busy
            summary = json.loads(done.stdout)
            offered[name] = [round(r.intended_s, 3) for r in read_run(tmp_path / name).records]
            assert summary["overall"]["outcomes"] == {"ok": len(offered[name])}
    assert summary["client"]["workers"] == 2
    assert len(offered["here"]) > 50
    assert offered["cluster"] == offered["here"]
    assert cluster.names_of("raylet"), "the cluster was ended with the run"
    assert not cluster.names_of("Player"), "a worker was left in the cluster"


def test_a_cluster_that_is_not_there_is_the_environments_fault(tmp_path: Path) -> None:
    with mock_process({"ttft": "5ms", "itl": "1ms"}) as mock:
        command = [
            FOREBAY,
            "load",
            mock.url,
            "--rate",
            "5/s",
            "--for",
            "1s",
            "--ray",
            "127.0.0.1:9",
        ]
        done = subprocess.run(
            [*command, "--output", str(tmp_path / "r")], capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 3
    assert "127.0.0.1:9" in done.stderr
