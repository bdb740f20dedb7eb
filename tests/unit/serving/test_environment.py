"""The limits that HAProxy is given, which decide how much memory it can take."""

from __future__ import annotations

import os
import shutil

import pytest

from forebay.serving import ports
from forebay.serving.environment import _PORTS, prepare, variables
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


def test_ports_that_serve_opens_besides_are_none_that_the_file_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ports, "_CANDIDATES", range(25_000, 25_012))
    monkeypatch.setattr(os, "environ", {})
    named = {25_003, 25_007}
    spec = load_service_text(f"{DEMO}server: {{port: 25003, metrics_port: 25007}}\n")
    for _ in range(20):
        shutil.rmtree(prepare(spec))
        picked = {int(os.environ[name]) for name in _PORTS}
        assert len(picked) == len(_PORTS)
        assert not picked & named


def test_serve_is_told_how_many_routers_there_are_beside_each_proxy() -> None:
    spec = load_service_text(f"{DEMO}server: {{routers: 3}}\n")
    assert variables(spec)["RAY_SERVE_INGRESS_ROUTER_REPLICAS_PER_NODE"] == "3"


@pytest.mark.parametrize("drain_s", [5, 600])
def test_an_old_proxy_outlives_two_streams_in_a_row_on_one_connection(drain_s: int) -> None:
    drain = f"scaling: {{drain: {drain_s}s}}\nserver: {{drain: 1s}}\n"
    lives_s = int(variables(load_service_text(DEMO + drain))["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"])
    assert lives_s > 2 * drain_s
