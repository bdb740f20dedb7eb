"""Bringing a service up on Ray, watching it, and taking it down without leaving anything behind."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
import urllib.error
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from forebay.load.client import open_directly
from forebay.serving import cluster_kv
from forebay.serving.app import environment
from forebay.serving.app.build import build
from forebay.serving.cluster import cores, preflight, processes
from forebay.serving.cluster.drain import Drain, Say
from forebay.serving.cluster.ending import end_ledger, end_log
from forebay.serving.cluster.lone_replica import LoneReplica
from forebay.serving.cluster.preflight import EnvironmentFailedError
from forebay.serving.cluster.proxy_sessions import JoinedProxies, OwnProxies
from forebay.serving.control import SharedTenants, start_ledger
from forebay.serving.names import INGRESS_DEPLOYMENT
from forebay.spec.service import ServiceSpec, placement_bundles

_POLL_S = 0.25
_CALL_S = 5.0
_STOP_PATIENCE_S = 3.0
_OBJECT_STORE_BYTES = 256 * 2**20  # nothing large passes through it
_PROXY_LOCATIONS = {"every-node": "EveryNode", "head": "HeadOnly"}  # Serve's words
_SAY = partial(print, flush=True)
_PHASES = {
    None: "starting a replica",
    "engine": "loading the model into vLLM",
    "warm-up": "warming up",
    "ready": "opening the API",
}


class Platform:
    """One running service.

    Use as a context manager: leaving it, also by an exception, stops everything it started.
    """

    def __init__(self, spec: ServiceSpec) -> None:
        self.spec = spec
        self._before: set[int] = set()
        self._folder: Path | None = None
        self._connected = False
        self._serves = False  # whether the Serve of a cluster that was joined is this one's
        self.spare_cores: set[int] = set()  # of this machine, beside those that models compute on

    @property
    def url(self) -> str:
        """Base address of the OpenAI API."""
        return f"{self._root}/v1"

    @property
    def metrics_pages(self) -> list[str]:
        """Where Prometheus finds the metrics; of a cluster joined, that is its nodes' business."""
        server = self.spec.server
        port = server.metrics_port
        return [f"http://127.0.0.1:{port}/metrics"] if server.ray_address is None else []

    @property
    def _root(self) -> str:
        return f"http://{self.spec.server.host}:{self.spec.server.port}"

    def __enter__(self) -> Platform:
        self._before = {p.pid for p in psutil.Process().children(recursive=True)}
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Iterator[str]:
        """Start the service, yielding each phase as it begins; returns when it answers.

        Raises:
            EnvironmentFailedError: it cannot run here, failed, or was not ready in time.
        """
        preflight.check(self.spec)
        processes.adopt_orphans()
        try:
            self._folder = environment.prepare(self.spec)
        except OSError as error:
            raise EnvironmentFailedError(f"this machine is not ready: {error}") from error
        yield "starting Ray"
        self._connect()
        yield "starting Ray Serve and HAProxy"
        try:
            self._deploy()
        except Exception as error:  # Ray raises many kinds
            raise EnvironmentFailedError(f"Ray Serve did not start: {_cause(error)}") from error
        yield from self._phases_until_ready()

    def _connect(self) -> None:
        import ray

        address = self.spec.server.ray_address
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        self._connected = True  # also when interrupted half-way: there is something to stop
        try:
            if address is None:
                with processes.deaf_to_hangups():
                    ray.init(
                        "local",  # not one that runs here already, or that RAY_ADDRESS names
                        include_dashboard=False,
                        _metrics_export_port=self.spec.server.metrics_port,
                        object_store_memory=_OBJECT_STORE_BYTES,
                        **common,
                    )
                self._refuse_too_large_a_replica(ray.cluster_resources())
                return
            env = {"env_vars": environment.variables(self.spec)}
            ray.init(address=address, runtime_env=env, **common)
        except ConnectionError as error:
            raise EnvironmentFailedError(
                f"server.ray_address: no Ray cluster answers at {address} ({error}); if it asks "
                "for a token, set RAY_AUTH_MODE=token"
            ) from error
        except EnvironmentFailedError:
            raise
        except Exception as error:  # versions that differ, a token's file, a start that hangs, ...
            where = "Ray did not start" if address is None else f"server.ray_address: {address}"
            raise EnvironmentFailedError(f"{where}: {error}") from error
        self._refuse_foreign_serve()

    def _refuse_too_large_a_replica(self, there: Mapping[str, float]) -> None:
        """On this machine alone nothing will come that a replica waits for."""
        needed: Counter[str] = Counter()
        for bundle in placement_bundles(self.spec):
            needed.update(bundle)
        short = [
            f"{amount:g} {name} ({there.get(name, 0.0):g} here)"
            for name, amount in needed.items()
            if there.get(name, 0.0) < amount
        ]
        if short:
            raise EnvironmentFailedError(
                f"one replica needs {' and '.join(short)}; see hardware.accelerator, "
                "hardware.cpus_per_replica and model.engine_args.tensor_parallel_size"
            )

    def _refuse_foreign_serve(self) -> None:
        """A Serve that runs already has its data plane fixed; ours would not work behind it."""
        from ray.serve.context import _get_global_client

        if _get_global_client(raise_if_no_controller_running=False) is not None:
            raise EnvironmentFailedError(
                f"Ray Serve runs on the cluster at {self.spec.server.ray_address} already; "
                "give Forebay a cluster of its own, or run: serve shutdown"
            )

    def _deploy(self) -> None:
        from ray import serve
        from ray.serve.config import HTTPOptions
        from ray.serve.schema import LoggingConfig

        for name in ("ray", "ray.serve", "vllm"):  # progress is told by the phases
            logging.getLogger(name).setLevel(logging.WARNING)
        quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
        self._serves = True  # also when interrupted half-way
        serve.start(
            proxy_location=_PROXY_LOCATIONS[self.spec.server.proxies],
            http_options=HTTPOptions(host=self.spec.server.host, port=self.spec.server.port),
            logging_config=quiet,
        )
        target = serve.RunTarget(
            target=build(self.spec), name=self.spec.name, route_prefix="/", logging_config=quiet
        )
        # Of a service that was killed on this cluster its log of scaling would tell this one what
        # it had learned, and the floor that somebody had set under it.
        end_log(self.spec.name)
        end_ledger(self.spec.name)
        cluster_kv.tell_spec(self.spec)
        cluster_kv.forget_start(self.spec.name)
        SharedTenants(self.spec.name).forget()
        if self.spec.tenants is not None:
            start_ledger(self.spec.name)
        serve.run_many([target], wait_for_applications_running=False)

    def _phases_until_ready(self) -> Iterator[str]:
        give_up = time.monotonic() + self.spec.server.start_timeout
        shown: str | None = ""
        while True:
            self._raise_if_failed()
            phase = cluster_kv.reached(self.spec.name)
            if phase == "ready" and self._answers():
                self._arrange_processes()
                return
            if phase != shown:
                shown = phase
                yield _PHASES.get(phase, str(phase))
            if time.monotonic() > give_up:
                raise EnvironmentFailedError(
                    f"not ready after {self.spec.server.start_timeout:.0f} s "
                    f"(while {_PHASES.get(phase, phase)}); Ray's logs are in "
                    "/tmp/ray/session_latest/logs, or raise server.start_timeout"
                )
            time.sleep(_POLL_S)

    def _arrange_processes(self) -> None:
        """Give the model and the requests the cores, on the machine that this process runs on."""
        family = processes.others(self._before)
        cores.yield_to_serving(family)
        if self.spec.hardware.is_cpu:
            threads = environment.model_threads(self.spec)
            self.spare_cores = cores.separate(family, threads)

    def _raise_if_failed(self) -> None:
        from ray import serve

        status = serve.status().applications.get(self.spec.name)
        if status is None or status.status not in ("DEPLOY_FAILED", "UNHEALTHY"):
            return
        reasons = [d.message for d in status.deployments.values() if d.message]
        raise EnvironmentFailedError(
            "the service failed to start: " + ("\n".join(reasons) or status.message)
        )

    def _answers(self) -> bool:
        try:
            # Not a path that needs a key.
            with open_directly(f"{self._root}/health", 2.0) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def fleet(self) -> list[dict[str, Any]]:
        """What each replica published last (see `ForebayServer.record_routing_stats`)."""
        if self.spec.scaling.stays_at_one:
            return LoneReplica(self.spec, _CALL_S).fleet()
        return list(self._ingress().fleet.remote().result(timeout_s=_CALL_S))

    def last_decision(self) -> dict[str, Any] | None:
        """The last decision on the fleet's size; None where that is fixed, or none was made yet."""
        import ray

        from forebay.serving.scaling.scaling_log import scaling_log

        scaling = self.spec.scaling
        if scaling.min == scaling.max:
            return None
        told: list[dict[str, Any]] = ray.get(
            scaling_log(self.spec.name).last.remote(1), timeout=_CALL_S
        )
        return told[-1] if told else None

    def _ingress(self) -> Any:
        from ray import serve

        return serve.get_deployment_handle(INGRESS_DEPLOYMENT, self.spec.name)

    def drain(self, say: Say = _SAY) -> bool:
        """Refuse new requests and wait for the running ones, at most `server.drain` seconds.

        Args:
            say: takes a line whenever it waits for something else.

        Returns:
            Whether everything that was running has ended.
        """
        assert self._folder is not None  # it has started
        joined = self.spec.server.ray_address is not None
        proxies = JoinedProxies() if joined else OwnProxies(self._folder)
        return Drain(self.spec.name, self.spec.server.drain, self, proxies, say).run()

    def begin_drain(self) -> None:
        """Tell every replica that is ready now."""
        if self.spec.scaling.stays_at_one:
            LoneReplica(self.spec, 2 * _CALL_S).drain()
        else:
            self._ingress().drain.remote().result(timeout_s=2 * _CALL_S)

    def stop(self) -> None:
        """Stop the service and every process that this one started. Does not drain.

        Interrupted (a second Ctrl-C), it kills what is left and still leaves nothing behind.
        """
        try:
            if self._connected:
                self._leave_cluster()
            patience = _STOP_PATIENCE_S
        except KeyboardInterrupt:
            patience = 0.0
        while True:
            try:
                self._leave_nothing(patience)
                return
            except KeyboardInterrupt:
                patience = 0.0

    def _leave_nothing(self, patience_s: float) -> None:
        if self.spec.server.ray_address is None:
            processes.end_descendants(self._before, patience_s=patience_s)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._connected, self._serves, self._folder = False, False, None

    def _leave_cluster(self) -> None:
        import ray
        from ray import serve

        # Not connected, serve.shutdown() would start a Ray of its own to have something to stop;
        # before this service's own Serve was started, it would stop somebody else's.
        joined = self.spec.server.ray_address is not None
        if joined and self._serves and ray.is_initialized():
            name = self.spec.name
            for end in (serve.shutdown, partial(end_ledger, name), partial(end_log, name)):
                with contextlib.suppress(Exception):  # the cluster may be gone already
                    end()
        with contextlib.suppress(Exception):  # whatever is left is ended by process id
            ray.shutdown()


def _cause(error: Exception) -> str:
    """The line to show of a failure that Ray passes on with all its frames: the last one.

    HAProxy says what it cannot open first, and at the end that it gives up.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    told = (line for line in lines if "cannot bind" in line or "too long" in line)
    return next(told, lines[-1])
