"""`forebay scale`, up to where it needs a running service."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from fake_serve import Handle
from typer.testing import CliRunner

from forebay.cli.main import app
from forebay.cli.scale import read_end
from forebay.serving.control import floor_by_hand

NOW = datetime(2026, 12, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("2h", NOW + timedelta(hours=2)),
        ("2026-12-01T12:00+01:00", NOW + timedelta(hours=3)),
        ("2026-12-01T12:00Z", NOW + timedelta(hours=4)),
    ],
)
def test_the_end_is_a_time_or_a_duration(text: str, end: datetime) -> None:
    assert read_end(text, NOW) == end


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5", "neither a time"),
        ("2026-12-01T12:00", "no offset; write a time such as 2026-12-01T12:00Z"),
        ("2026-12-02", "no time of day"),
        ("2026-12-02+01:00", "no time of day"),
        ("2026-12-01T07:00Z", "past"),
        ("2027-12-01T07:00Z", "more than a month"),
    ],
)
def test_an_end_that_cannot_be_meant_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_end(text, NOW)


def test_a_service_of_fixed_size_is_told_so() -> None:
    said = CliRunner().invoke(app, ["scale", "examples/demo.yaml", "--min", "3"])
    assert said.exit_code == 2
    assert "the size is fixed" in said.output


def test_more_than_max_is_refused() -> None:
    said = CliRunner().invoke(app, ["scale", "examples/scaling.yaml", "--min", "9"])
    assert said.exit_code == 2
    assert "above scaling.max, 8" in said.output


class Machine:
    """Services on Rays of their own, as (name, port) by address."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, services: dict[str, Any]) -> None:
        self.floors: list[tuple[str, str, int]] = []
        self.calls: list[str] = []
        self._at = ""
        log = Handle(set_floor=lambda *floor: floor)
        monkeypatch.setattr(ray, "init", lambda address, **_: self._connect(services, address))
        monkeypatch.setattr(ray, "shutdown", lambda: setattr(self, "_at", ""))
        monkeypatch.setattr(ray, "get_actor", lambda name, _: self._found(name, log))
        monkeypatch.setattr(ray, "get", self._set)
        monkeypatch.setattr(floor_by_hand, "_gcs_addresses", lambda: set(services))
        monkeypatch.setattr(floor_by_hand, "_show_token", lambda: self.calls.append("token"))
        monkeypatch.setattr(floor_by_hand, "the_spec", lambda: self._spec(services))

    def _connect(self, services: dict[str, Any], address: str) -> None:
        self.calls.append(address)
        if address not in services:
            raise ValueError(f"{address} is no address")
        if services[address] == "of another version":
            raise RuntimeError("Version mismatch")
        self._at = address

    def _spec(self, services: dict[str, Any]) -> Any:
        if services[self._at] is None:
            return None
        name, port = services[self._at]
        return SimpleNamespace(name=name, server=SimpleNamespace(port=port))

    def _found(self, name: str, log: Any) -> Any:
        self._asked = name
        return log

    def _set(self, floor: tuple[int, float], timeout: float) -> None:
        self.floors.append((self._at, self._asked, floor[0]))
        self.until = datetime.fromtimestamp(floor[1], UTC)


@pytest.mark.parametrize(
    ("services", "address"),
    [
        ({"a:1": ("scaling", 8000), "b:1": ("other", 8001), "c:1": None}, "a:1"),
        ({"a:1": ("scaling", 9000), "b:1": ("scaling", 8000)}, "b:1"),
        ({"a:1": ("other", 8000), "b:1": ("scaling", 9000)}, "b:1"),  # served with --port
        ({"a:1": "of another version", "b:1": ("scaling", 8000)}, "b:1"),
    ],
)
def test_a_floor_is_set_where_the_service_runs(
    monkeypatch: pytest.MonkeyPatch, services: dict[str, Any], address: str
) -> None:
    machine = Machine(monkeypatch, services)
    said = CliRunner().invoke(app, ["scale", "examples/scaling.yaml", "--min", "3"])
    assert said.exit_code == 0, said.output
    assert machine.floors == [(address, "scaling:scaling", 3)]
    left = machine.until - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)


def test_a_floor_ends_when_it_was_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, {"a:1": ("scaling", 8000)})
    end = (datetime.now(UTC) + timedelta(days=2)).replace(microsecond=0)
    args = ["scale", "examples/scaling.yaml", "--min", "3", "--until", end.isoformat()]
    assert CliRunner().invoke(app, args).exit_code == 0
    assert machine.until == end


@pytest.mark.parametrize(
    ("services", "told"),
    [
        ({"a:1": ("other", 8000)}, "no service 'scaling' runs on this machine"),
        ({"a:1": ("scaling", 9000), "b:1": ("scaling", 9001)}, "--address b:1 (port 9001)"),
    ],
)
def test_where_it_is_not_known_which_no_floor_is_set(
    monkeypatch: pytest.MonkeyPatch, services: dict[str, Any], told: str
) -> None:
    machine = Machine(monkeypatch, services)
    said = CliRunner().invoke(app, ["scale", "examples/scaling.yaml", "--min", "3"])
    assert said.exit_code == 3
    assert told in said.output
    assert not machine.floors


@pytest.mark.parametrize(
    ("address", "calls", "told"),
    [
        ("b:1", ["token", "b:1"], "at least 3 replicas"),
        ("10.0.0.5", ["10.0.0.5"], "no Ray cluster answers at 10.0.0.5"),
    ],
)
def test_a_cluster_that_is_named_is_shown_the_token_if_it_is_here(
    monkeypatch: pytest.MonkeyPatch, address: str, calls: list[str], told: str
) -> None:
    machine = Machine(monkeypatch, {"a:1": ("scaling", 9000), "b:1": ("scaling", 9001)})
    args = ["scale", "examples/scaling.yaml", "--min", "3", "--address", address]
    said = CliRunner().invoke(app, args)
    assert (machine.calls, said.exception is None or isinstance(said.exception, SystemExit)) == (
        calls, True,
    )  # fmt: skip
    assert told in said.output


def test_without_ray_it_is_said_what_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = CliRunner().invoke(app, ["scale", "examples/scaling.yaml", "--min", "3"])
    assert said.exit_code == 3
    assert "needs Ray" in said.output
