"""A Ray cluster whose nodes come and go: Ray's autoscaler with its fake node provider.

Every node is real to Ray: a raylet of its own, with workers and an object store. All run on this
machine, under one address. `ray.cluster_utils.AutoscalingCluster`, which does the same, cannot be
used: it reads a file that Ray's wheel lacks, and begins with `ray stop`, which would end every Ray
of this machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
from ray_cluster import wait_for_raylet

from forebay.serving.app import free_ports

RAY = str(Path(sys.executable).parent / "ray")
_HEAD = "f" * 51 + "00000"  # ray.autoscaler._private.fake_multi_node.node_provider
_NODE_ID = "RAY_OVERRIDE_NODE_ID_FOR_TESTING"  # in the environment of a node's processes
_STORE_BYTES = 100_000_000  # Ray's least is 75 MB
_EMPTY: dict[str, Any] = {
    "auth": {},
    "docker": {},
    "file_mounts": {},
    "cluster_synced_files": [],
    "file_mounts_sync_continuously": False,
    "rsync_exclude": [],
    "rsync_filter": [],
    "initialization_commands": [],
    "setup_commands": [],
    "head_setup_commands": [],
    "worker_setup_commands": [],
    "head_start_ray_commands": [],
    "worker_start_ray_commands": [],
}


class RayNodes:
    """The head, which takes no replicas, and as many nodes as they ask for."""

    def __init__(self, most: int, idle_s: float, cpus: int = 1) -> None:
        """Start the head.

        Args:
            most: nodes, without the head.
            idle_s: how long a node with nothing to do stays.
            cpus: what each node has.
        """
        self.port, metrics, client = free_ports(3)
        # Not a longer path: that of a Unix socket may only be some hundred bytes.
        self._folder = tempfile.mkdtemp(prefix="ray-")
        config = Path(self._folder) / "autoscaler.json"
        config.write_text(json.dumps(_autoscaler(self.address, most, idle_s, cpus)))
        command = [RAY, "start", "--head", "--block", f"--port={self.port}", "--num-cpus=0"]
        command += [f"--node-ip-address={_address()}", f"--autoscaling-config={config}"]
        command += ["--include-dashboard=false", "--disable-usage-stats"]
        command += [f"--temp-dir={self._folder}", f"--metrics-export-port={metrics}"]
        command += [f"--ray-client-server-port={client}"]
        command += [f"--object-store-memory={_STORE_BYTES}"]
        self._log = (Path(self._folder) / "head.log").open("w")
        self._process = subprocess.Popen(
            command, stdout=self._log, stderr=subprocess.STDOUT, env={**os.environ, **_VARIABLES}
        )
        try:
            wait_for_raylet(self._process, lambda: _raylets(self._family()))
        except BaseException:
            self.end()
            raise

    @property
    def address(self) -> str:
        """For `server.ray_address`."""
        return f"{_address()}:{self.port}"

    def _family(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self._process.pid).children(recursive=True)
        return []

    def nodes(self) -> dict[str, list[psutil.Process]]:
        """Nodes that run now, without the head: all processes of each, its raylet first."""
        found = {}
        for raylet in _raylets(self._family()):
            with contextlib.suppress(psutil.Error):
                node = raylet.environ()[_NODE_ID]
                if node != _HEAD:
                    found[node] = [raylet, *raylet.children(recursive=True)]
        return found

    def of_head(self, part: str) -> list[psutil.Process]:
        """Processes of the head whose title contains `part`."""
        elsewhere = {process.pid for family in self.nodes().values() for process in family}
        found = []
        for process in self._family():
            with contextlib.suppress(psutil.Error):
                if process.pid not in elsewhere and part in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def kill(self, node: str) -> None:
        """End a node as a power cut does: every process of it, none of them asked."""
        for process in self.nodes()[node]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def end(self) -> None:
        """End it by its own process ids; nothing that it still does is worth waiting for."""
        family = self._family()
        self._process.kill()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(timeout=30)
        psutil.wait_procs(family, timeout=10)
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)


_VARIABLES = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_FAKE_CLUSTER": "1",
    "RAY_enable_autoscaler_v2": "1",
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_CLOUD_INSTANCE_ID": _HEAD,
    _NODE_ID: _HEAD,
}


def _address() -> str:
    """Of this machine, as Ray's nodes find it themselves."""
    from ray.util import get_node_ip_address

    return str(get_node_ip_address())


def _autoscaler(gcs: str, most: int, idle_s: float, cpus: int) -> dict[str, Any]:
    provider = {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "launch_multiple": True,
        "head_node_id": _HEAD,
        "gcs_address": gcs,
    }
    worker = {"CPU": cpus, "object_store_memory": _STORE_BYTES}
    return {
        **_EMPTY,
        "cluster_name": "nodes",
        "max_workers": most,
        "upscaling_speed": float(most),
        "idle_timeout_minutes": idle_s / 60,
        "provider": provider,
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": worker,
                "node_config": {},
                "min_workers": 0,
                "max_workers": most,
            },
        },
    }


def _raylets(processes: list[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if "raylet/raylet" in " ".join(process.cmdline()[:1]):
                found.append(process)
    return found
