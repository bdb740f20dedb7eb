"""Between the autoscaling policy, in Serve's controller, and its log, which outlives that.

The controller never waits: what was asked for is used when it has come.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from forebay.serving.scaling.scaling_log import Orders, Sizes, scaling_log

_LOG = logging.getLogger("ray.serve")


class ScalingLink:
    """What the log has said, and what it is told."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._log: Any = None
        self._asked: Any = None  # the answer that brings the orders
        self.orders = Orders()
        self.answered = False

    def look(self) -> None:
        """Take the answer to the question before, if it has come, and ask again.

        The first answer also brings what an earlier policy knew.
        """
        import ray

        try:
            if self._asked is None:
                self._asked = self._actor().orders.remote(with_memory=not self.answered)
            if not ray.wait([self._asked], timeout=0)[0]:
                return
            asked, self._asked = self._asked, None
            self._take(ray.get(asked))
            self.answered = True
        except Exception as error:
            self._lost(error)

    def _take(self, orders: Orders) -> None:
        """What the log says; one that has taken the place of another is told the floor by hand."""
        before = self.orders
        is_new = bool(before.since) and orders.since != before.since
        if is_new and orders.floor is None and before.floor is not None:
            self._actor().set_floor.remote(*before.floor)
            orders = replace(orders, floor=before.floor)
        self.orders = orders

    def tell(self, record: dict[str, Any], keep: bool, memory: bytes, sizes: Sizes) -> None:
        """See `ScalingLog.tick`. Whatever goes wrong, only this record is lost."""
        try:
            self._actor().tick.remote(record, keep, memory, sizes)
        except Exception as error:
            self._lost(error)

    def _actor(self) -> Any:
        if self._log is None:
            self._log = scaling_log(self._service)
        return self._log

    def _lost(self, error: Exception) -> None:
        self._log = self._asked = None
        _LOG.warning("the scaling log does not answer (%s)", error)
