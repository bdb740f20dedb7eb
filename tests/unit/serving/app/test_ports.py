"""Ports that the service picks for itself are still free when what is told of them listens."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from forebay.serving.app import free_ports, ports
from forebay.serving.cluster import check_port


def kernels_range(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (folder / "range").write_text(text)
    monkeypatch.setattr(ports, "_KERNELS_OWN", folder / "range")


def test_ports_are_different_and_can_be_listened_on() -> None:
    found = free_ports(50)
    assert len(set(found)) == 50
    for port in found:
        check_port("0.0.0.0", port, "server.port")


def test_a_port_of_the_files_is_not_picked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_CANDIDATES", range(25_000, 25_050))
    named = range(25_000, 25_040)
    assert not set(free_ports(5, besides=named)) & set(named)


def test_none_is_one_that_the_kernel_may_give_to_a_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels_range(tmp_path, monkeypatch, "20100\t60999\n")
    assert max(free_ports(50)) < 20_100


@pytest.mark.parametrize(
    ("text", "outside"), [("1024\t65535\n", 0), ("20003\t65535\n", 3), ("unreadable", 0)]
)
def test_where_the_kernel_may_give_nearly_any_they_are_still_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, outside: int
) -> None:
    kernels_range(tmp_path, monkeypatch, text)
    monkeypatch.setattr(ports, "_is_free", lambda _: True)  # whatever else runs here
    found = free_ports(5)
    assert len(set(found)) == 5
    if outside:
        assert sum(port < 20_000 + outside for port in found) == outside


def test_a_port_in_use_is_passed_over_and_too_few_are_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ExitStack() as held:
        first = free_ports(1)[0]
        listener = held.enter_context(socket.socket())
        listener.bind(("127.0.0.1", first))
        listener.listen()
        monkeypatch.setattr(ports, "_CANDIDATES", range(first, first + 1))
        with pytest.raises(OSError, match="0 of 1 ports are free"):
            free_ports(1)
