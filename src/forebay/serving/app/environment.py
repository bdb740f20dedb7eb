"""What Ray and vLLM read from the environment, set before either is imported.

Ray Serve takes its data-plane settings from environment variables in every process of the cluster:
the driver, the controller, the proxies and the replicas. `prepare` sets them here for processes
that this one starts; `variables` goes into Ray's `runtime_env` for the rest.
"""

from __future__ import annotations

import os
import tempfile
from math import ceil
from pathlib import Path
from typing import Any

from forebay.serving.app.ports import free_ports
from forebay.serving.names import SESSION_HEADER
from forebay.spec.service import ServiceSpec

# The router is shown this much of a body: some 22,000 tokens of text, enough to know a prompt by.
# It is also HAProxy's buffer, of which a connection holds two while a longer body comes in (one for
# a shorter body or an unread answer, none when idle): with `server.max_connections` that all do,
# 2,400 x 2 x 96 KiB = 472 MB, and 13 MB for HAProxy itself. Decision 0013.
_ROUTED_BODY_BYTES = 96 * 1024

# A client that neither sends nor takes anything for so long is dropped; Ray's hour would let one
# that is gone hold its connection, and its answer in the replica. It does not count while the
# client waits for an answer, and an idle connection has 90 s of its own (`keep_alive_timeout_s`).
_CLIENT_SILENCE_S = 60

_DATA_PLANE = {
    # vLLM's own app in the replica, streamed to by HAProxy without Python between.
    "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
    "RAY_SERVE_INGRESS_REQUEST_ROUTER_FORWARD_BODY": "1",
    "RAY_SERVE_HAPROXY_INGRESS_REQUEST_ROUTER_BUFSIZE": str(_ROUTED_BODY_BYTES),
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(_CLIENT_SILENCE_S),
    # A replica that cannot be connected to costs one more attempt, at another. HAProxy's own: 3.
    "RAY_SERVE_HAPROXY_RETRIES": "1",
    "RAY_SERVE_SESSION_ID_HEADER_KEY": SESSION_HEADER,
    # The gate counts every request already; HAProxy's log line a request, parsed in Python, would
    # count it a second time.
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    # A replica that leaves keeps listening until HAProxy has heard of it: Serve's own 30 s is
    # longer than it waits for its shutdown, and many times longer than HAProxy needs.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
    # On few cores the cluster's housekeeping is felt. Ray's own: every 0.1 s and every 5 s.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",
    "RAY_REPORTER_UPDATE_INTERVAL_MS": "15000",
    # What replicas were offered is read once a second (`scaling_policy.py`); Ray's own: every 10 s.
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    # Before Serve's own HTTP servers: routers' answers, replicas' refusals, and in the proxy a
    # front door for the time in which there is no replica.
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "forebay.serving.app.before_serve:middlewares",
    # Replicas pass on their counts every 0.1 s otherwise.
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "1000",
}

# Only for replicas: a driver without an event loop of its own needs Serve's separate one.
_REPLICA = {
    # One event loop for Serve's shell and vLLM's app: a hop between threads for every streamed
    # chunk costs more than the chunk.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
}

_QUIET = {
    # Ray starts workers at nice 15, made for batch work that gives way to a desktop.
    "RAY_worker_niceness": "0",
    # A load test reads the metrics beside its own figures; Ray's 10 s leave it three points in a
    # stage of half a minute.
    "RAY_metrics_report_interval_ms": "5000",
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
    # vLLM waits on its event loop for a client's pattern to compile; its own: 5 s.
    "VLLM_REGEX_COMPILATION_TIMEOUT_S": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "DO_NOT_TRACK": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TOKENIZERS_PARALLELISM": "false",
}


_SHORT_TEMP = "/tmp"
_LONGEST_TEMP = 107 - 10 - len("/forebay-12345678/") - 56 - len("/metrics.sock")

# Ports that Serve opens beside the API's, fixed unless set: a second service would not start.
_PORTS = (
    "RAY_SERVE_HAPROXY_METRICS_PORT",
    "RAY_SERVE_HAPROXY_STATS_PORT",
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT",
)


def replica_variables(spec: ServiceSpec) -> dict[str, str]:
    """Environment of replicas and the ingress."""
    env = {**variables(spec), **_REPLICA}
    if spec.hardware.is_cpu:
        env["OMP_NUM_THREADS"] = str(model_threads(spec))
    return env


def model_threads(spec: ServiceSpec) -> int:
    """Threads, and cores, that one model on CPU computes with."""
    return max(int(spec.hardware.cpus_per_replica), 1)


def longest_drain_s(spec: ServiceSpec) -> float:
    """Longest that a replica that leaves may go on with the streams it has, in seconds."""
    return max(spec.server.drain, spec.scaling.drain)


def variables(spec: ServiceSpec) -> dict[str, str]:
    """Environment of every process of the cluster that serves this spec."""
    env = {**_DATA_PLANE, **_QUIET}
    # Every change of the replica set starts a new HAProxy worker; the old one is killed so many
    # seconds later, with the streams that it still carries (Ray's own: 120). Twice the longest: on
    # a connection that is kept, a stream under way at the change may be followed by another one.
    env["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"] = str(ceil(2 * longest_drain_s(spec)) + 10)
    env["RAY_SERVE_HAPROXY_MAXCONN"] = str(spec.server.max_connections)
    # Serve itself decides how many routers there are, and where: so many beside each HAProxy.
    env["RAY_SERVE_INGRESS_ROUTER_REPLICAS_PER_NODE"] = str(spec.server.routers)
    if spec.model.source_path is not None and not _names_a_repository(spec.model.engine_args):
        # A local model asks no hub anything.
        env["HF_HUB_OFFLINE"] = os.environ.get("HF_HUB_OFFLINE", "1")
    return env


def _names_a_repository(engine_args: dict[str, Any]) -> bool:
    """Whether something beside the model may have to be fetched from a hub."""
    drafts = engine_args.get("speculative_config")
    named = [engine_args.get(name) for name in ("tokenizer", "hf_config_path")]
    named.append(drafts.get("model") if isinstance(drafts, dict) else None)
    return any(name and not Path(str(name)).is_dir() for name in named)


def _place_for_sockets() -> str | None:
    """Where the folder goes; None for where temporary ones do, of which the name may be too long.

    A socket's path has 107 bytes at most, of which HAProxy takes ten for a name of its own while
    it starts; Serve puts a node's id (56) and the socket's name after our folder.
    """
    usual = tempfile.gettempdir()
    if len(os.fsencode(usual)) <= _LONGEST_TEMP or not os.access(_SHORT_TEMP, os.W_OK):
        return None
    return _SHORT_TEMP


def prepare(spec: ServiceSpec) -> Path:
    """Set the environment of this process for a cluster that it starts itself.

    Returns:
        A fresh folder for HAProxy's configuration and sockets, so that two services on one
        machine do not write over each other's.
    """
    named = (spec.server.port, spec.server.metrics_port)
    ports = free_ports(len(_PORTS), besides=named)
    folder = Path(tempfile.mkdtemp(prefix="forebay-", dir=_place_for_sockets()))
    os.environ.update(variables(spec))
    os.environ.update(
        {
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
            **{name: str(port) for name, port in zip(_PORTS, ports, strict=True)},
            "RAY_SERVE_HAPROXY_NBTHREAD": str(min(max((os.cpu_count() or 1) // 2, 1), 4)),
        }
    )
    return folder
