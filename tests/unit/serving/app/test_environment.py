"""The limits that HAProxy is given, which decide how much memory it can take."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from forebay.serving.app import ports
from forebay.serving.app.environment import _PORTS, prepare, variables
from forebay.spec.service import load_service_text

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


def test_a_client_that_takes_nothing_of_its_answer_is_cut_off_after_a_minute() -> None:
    assert variables(load_service_text(DEMO))["RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S"] == "60"


@pytest.mark.parametrize("drain_s", [5, 600])
@pytest.mark.parametrize("longer", ["scaling", "server"])
def test_an_old_proxy_outlives_two_streams_in_a_row_on_one_connection(
    drain_s: int, longer: str
) -> None:
    shorter = {"scaling": "server", "server": "scaling"}[longer]
    drain = f"{longer}: {{drain: {drain_s}s}}\n{shorter}: {{drain: 1s}}\n"
    lives_s = int(variables(load_service_text(DEMO + drain))["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"])
    assert lives_s > 2 * drain_s


@pytest.mark.parametrize("usual", ["/tmp", "/" + 40 * "t"])
def test_haproxys_sockets_fit_whatever_folder_temporary_files_go_to(
    monkeypatch: pytest.MonkeyPatch, usual: str
) -> None:
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(tempfile, "tempdir", usual)
    folder = prepare(load_service_text(DEMO))
    try:
        # Serve puts a node's id after the folder, HAProxy ten characters of its own at the end.
        for name in ("RAY_SERVE_HAPROXY_SOCKET_PATH", "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH"):
            socket = Path(os.environ[name])
            assert len(str(socket.parent / ("f" * 56) / socket.name)) + 10 <= 107
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("args", "offline"),
    [
        ("{}", "1"),
        ("{tokenizer: org/name}", None),
        ("{speculative_config: {model: org/draft, num_speculative_tokens: 2}}", None),
        ("{speculative_config: {method: ngram, num_speculative_tokens: 2}}", "1"),
    ],
)
def test_only_what_names_nothing_on_a_hub_is_kept_from_it(
    monkeypatch: pytest.MonkeyPatch, args: str, offline: str | None
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    text = f"name: s\nmodel: {{id: demo, source: demo, engine_args: {args}}}\n"
    assert variables(load_service_text(text)).get("HF_HUB_OFFLINE") == offline


def test_who_says_whether_a_hub_may_be_asked_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert variables(load_service_text(DEMO))["HF_HUB_OFFLINE"] == "0"
