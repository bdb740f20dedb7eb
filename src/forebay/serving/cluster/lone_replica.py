"""What the starting process asks of a fleet that stays at one replica, which has no routers."""

from __future__ import annotations

from typing import Any

from forebay.spec.service import ServiceSpec

_RUNNING = "RUNNING"  # Serve's word


class LoneReplica:
    """The replica, asked through its deployment's handle."""

    def __init__(self, spec: ServiceSpec, call_s: float) -> None:
        """A call may take `call_s` seconds."""
        self._name = spec.name
        self._call_s = call_s

    def fleet(self) -> list[dict[str, Any]]:
        """What it tells now; nothing while it is not there.

        Raises:
            TimeoutError: it does not answer.
        """
        if not self._runs():  # a call would wait for it to start
            return []
        return [self._call("record_routing_stats")]

    def drain(self) -> None:
        """Have it refuse what is new and finish what is running; it may have gone already.

        Raises:
            TimeoutError: it does not answer.
        """
        if self._runs():
            self._call("begin_drain")

    def _runs(self) -> bool:
        from ray import serve

        application = serve.status().applications.get(self._name)
        deployments = application.deployments.values() if application else []
        return any(deployment.replica_states.get(_RUNNING) for deployment in deployments)

    def _call(self, method: str) -> Any:
        from ray import serve

        handle = serve.get_app_handle(self._name)  # there is no other deployment
        return getattr(handle, method).remote().result(timeout_s=self._call_s)
