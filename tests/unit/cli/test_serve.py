"""`forebay serve`, up to where it would start."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest
from typer.testing import CliRunner, Result

from forebay.cli import serve
from forebay.cli.exits import Exit
from forebay.cli.main import app
from forebay.cli.service import catch_signals
from forebay.serving.cluster import Platform
from forebay.spec.service import ServiceSpec

SERVICE = "name: chat\nmodel: {id: demo, source: demo}\nserver: {metrics_port: 9100, drain: 5s}\n"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[ServiceSpec]:
    """What would have been started."""
    specs: list[ServiceSpec] = []

    def run(spec: ServiceSpec) -> Exit:
        specs.append(spec)
        return Exit.FINE

    monkeypatch.setattr(serve, "run", run)
    return specs


def serve_at(folder: Path, port: int) -> Result:
    file = folder / "forebay.yaml"
    file.write_text(SERVICE)
    return CliRunner().invoke(app, ["serve", str(file), "--port", str(port)])


def test_a_port_replaces_the_files_and_nothing_else(
    tmp_path: Path, started: list[ServiceSpec]
) -> None:
    assert serve_at(tmp_path, 9000).exit_code == 0
    (spec,) = started
    assert (spec.server.port, spec.server.metrics_port, spec.server.drain) == (9000, 9100, 5.0)


def test_the_demo_asks_without_a_key_and_says_so_before_it_starts(tmp_path: Path) -> None:
    file = tmp_path / "forebay.yaml"
    file.write_text(f"{SERVICE}tenants: tenants.yaml\n")
    (tmp_path / "tenants.yaml").write_text("tenants: []\n")
    result = CliRunner().invoke(app, ["demo", str(file)])
    assert result.exit_code == 2
    assert "tenants: the demo asks without a key" in result.stderr


def test_a_launch_of_last_year_is_a_warning(tmp_path: Path, started: list[ServiceSpec]) -> None:
    file = tmp_path / "forebay.yaml"
    floor = "{min: 2, from: 2020-12-01T08:30Z, until: 2020-12-01T12:00Z}"
    file.write_text(f"{SERVICE}scaling: {{max: 4, schedule: [{floor}]}}\n")
    result = CliRunner().invoke(app, ["serve", str(file)])
    assert started
    assert "warning: scaling.schedule.0: its window ended" in result.stderr


@pytest.mark.parametrize(
    ("port", "said"),
    [
        (9100, "--port: 9100 is server.metrics_port too; write another port"),
        (0, "--port: 0 must be at least 1"),
        (-1, "--port: -1 must be at least 1"),
        (70_000, "--port: 70000 must be at most 65535"),
    ],
)
def test_a_port_that_the_file_could_not_say_is_refused_by_its_option(
    tmp_path: Path, started: list[ServiceSpec], port: int, said: str
) -> None:
    result = serve_at(tmp_path, port)
    assert (result.exit_code, result.stderr) == (2, f"forebay: {said}\n")
    assert not started


class AskedAtCtrlC:
    """A service: Ctrl-C comes in the midst of the first question to it."""

    def __init__(self) -> None:
        self.spec = SimpleNamespace(server=SimpleNamespace(drain=5.0))
        self.answered = Event()
        self.drained = False
        self._drains = Event()

    def fleet(self) -> list[dict[str, Any]]:
        os.kill(os.getpid(), signal.SIGINT)
        assert self._drains.wait(timeout=10)
        self.answered.set()
        return []

    def last_decision(self) -> None:
        return None

    def drain(self, say: object) -> bool:
        self.drained = True
        self._drains.set()
        return True


class ClosedTerminal:
    """What the kernel makes of a terminal whose connection is gone."""

    def isatty(self) -> bool:
        return True

    def write(self, _: str) -> int:
        raise OSError(errno.EIO, "Input/output error")

    def flush(self) -> None:
        raise OSError(errno.EIO, "Input/output error")


@pytest.fixture
def signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    catch_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
def test_ctrl_c_cuts_no_question_that_the_drain_needs_the_answer_of() -> None:
    """Cut within Serve's handle, no later question of the process would be answered."""
    platform = AskedAtCtrlC()
    serve._watch(cast(Platform, platform))
    assert platform.drained
    assert platform.answered.wait(timeout=10)


@pytest.mark.usefixtures("signals")
def test_a_terminal_that_is_closed_still_has_the_service_drain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    platform = AskedAtCtrlC()
    monkeypatch.setattr(sys, "stdout", ClosedTerminal())
    serve._watch(cast(Platform, platform))
    assert platform.drained


@pytest.mark.usefixtures("signals")
def test_a_second_interrupt_ends_the_drain_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def drain(say: Callable[[str], None]) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        Event().wait(60.0)
        return True

    def show(*_: object) -> None:
        raise KeyboardInterrupt

    spec = SimpleNamespace(server=SimpleNamespace(drain=60.0))
    there = SimpleNamespace(spec=spec, fleet=list, last_decision=dict, drain=drain)
    draining = cast(Platform, there)
    monkeypatch.setattr(serve, "_show", show)
    with pytest.raises(KeyboardInterrupt):
        serve._watch(draining)
