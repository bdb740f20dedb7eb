"""The limits that HAProxy is given, which decide how much memory it can take."""

from __future__ import annotations

import pytest

from forebay.serving.environment import variables
from forebay.spec.loading import load_service_text

DEMO = "name: s\nmodel: {id: demo, source: demo}\n"
MOST_BYTES = 500e6
BUFFERS = 2  # that a connection may hold, see decision 0013
OWN_BYTES = 13e6  # of HAProxy without connections


def test_the_proxys_buffers_stay_below_its_memory_by_default() -> None:
    env = variables(load_service_text(DEMO))
    buffer = int(env["RAY_SERVE_HAPROXY_INGRESS_REQUEST_ROUTER_BUFSIZE"])
    connections = int(env["RAY_SERVE_HAPROXY_MAXCONN"])
    assert connections * BUFFERS * buffer + OWN_BYTES <= MOST_BYTES
    assert connections >= 2_000


@pytest.mark.parametrize("connections", [1, 50_000])
def test_connections_are_as_many_as_the_file_says(connections: int) -> None:
    spec = load_service_text(f"{DEMO}server: {{max_connections: {connections}}}\n")
    assert variables(spec)["RAY_SERVE_HAPROXY_MAXCONN"] == str(connections)
