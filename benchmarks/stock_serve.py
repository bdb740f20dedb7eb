"""Starts and stops Ray Serve with direct streaming, and nothing of Forebay's in between.

The environment that Ray reads, HAProxy as the data plane, and an end by process ids: whatever was
started is gone when this returns.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from forebay.serving.cluster import processes

_ENVIRONMENT = {
    "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
    "RAY_SERVE_INGRESS_REQUEST_ROUTER_FORWARD_BODY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def serve_until_stopped(port: int, deploy: Callable[[], None]) -> None:
    """Start Ray Serve on a port, have `deploy` run an application, and wait for SIGINT or SIGTERM.

    Ray must not have been imported before.
    """
    os.environ.update(_ENVIRONMENT)
    import ray
    from ray import serve

    processes.adopt_orphans()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        ray.init(include_dashboard=False, log_to_driver=False)
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        deploy()
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        pass
    finally:
        ray.shutdown()
        processes.end_descendants(set(), patience_s=3)
