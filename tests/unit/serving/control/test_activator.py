"""What a client of a fleet without replicas is told."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_serve import Handle

from forebay.serving.control import LateActivator, SharedTenants, activator
from forebay.serving.control.activator import Activator
from forebay.serving.http import App, Receive, Scope, Send, send_response
from forebay.serving.scaling import scaling_log
from forebay.spec.service import load_service
from forebay.spec.tenants import Version, key_hash, new_key

KEY = new_key()
CHAT = "/v1/chat/completions"


class Fleet:
    """What is behind the door."""

    def __init__(self, folder: Path, tenants: bool = False, least: int = 0) -> None:
        spec: dict[str, Any] = {
            "name": "s",
            "model": {"id": "m", "source": "demo-cpu", "engine": "emulated"},
            "scaling": {"min": least, "max": 2, "cold_start": "40s"},
        }
        if tenants:
            spec["tenants"] = "tenants.yaml"
            listed = {"tenants": [{"name": "t", "key_hashes": [key_hash(KEY)]}]}
            (folder / "tenants.yaml").write_text(yaml.safe_dump(listed))
        file = folder / "s.yaml"
        file.write_text(yaml.safe_dump(spec))
        self.spec = load_service(file)
        self.replicas = 0
        self.knocks = 0
        self.sizes = [(1, 1), (0, 0)]  # target, ready
        self.start_s: float | None = 12.5
        self.jitter = 0.0
        self.told: int | None = None
        self.door: App = Activator(
            self._proxy,
            self.spec,
            lambda: bool(self.replicas),
            self._activate,
            self._decisions,
            jitter=lambda: self.jitter,
        )

    async def _proxy(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_response(send, 200, b'"served"')

    async def _activate(self, assumed_s: float) -> float:
        self.knocks += 1
        if self.start_s is None:
            raise RuntimeError("no such actor")
        return self.start_s

    async def _decisions(self, count: int) -> list[dict[str, Any]]:
        told = {"reason": "no replica, no demand", "allowed": {"missing": 0}}
        self.told = count
        return [{**told, "target": target, "ready": ready} for target, ready in self.sizes]

    async def ask(
        self, path: str = CHAT, method: str = "POST", key: str | None = None, query: bytes = b""
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers and body."""
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"authorization", f"Bearer {key}".encode())] if key else []
        scope = {
            "type": "http", "method": method, "path": path, "headers": headers,
            "query_string": query,
        }  # fmt: skip
        await self.door(scope, receive, send)
        told = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
        return sent[0]["status"], told, json.loads(sent[1]["body"] or b"null")


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


async def test_the_first_request_is_told_when_to_come_back_and_has_a_replica_started(
    fleet: Fleet,
) -> None:
    status, headers, body = await fleet.ask()
    assert (status, headers["retry-after"], headers["retry-after-ms"]) == (503, "13", "12500")
    assert body["error"]["code"] == "starting"
    assert fleet.knocks == 1
    fleet.replicas = 1
    assert (await fleet.ask())[2] == "served"


async def test_who_came_during_a_start_does_not_come_back_in_one_instant(fleet: Fleet) -> None:
    waits = []
    for fleet.jitter in (0.0, 0.4, 0.8):
        waits.append(float((await fleet.ask())[1]["retry-after-ms"]))
    first, second, third = waits
    assert 12_500 == first < second < third <= 1.25 * first + 2_000
    assert third - first > 1_000
    fleet.start_s = 0.0
    assert float((await fleet.ask())[1]["retry-after-ms"]) > 1_000, (
        "a replica is there: all at once"
    )


async def test_when_nobody_hears_the_knock_the_files_start_is_told(fleet: Fleet) -> None:
    fleet.start_s = None
    status, headers, _ = await fleet.ask()
    assert (status, headers["retry-after"]) == (503, "40")


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/health", "GET", 200), ("/v1/models", "GET", 503), ("/metrics", "GET", 404)],
)
async def test_only_work_has_a_replica_started(
    fleet: Fleet, path: str, method: str, status: int
) -> None:
    assert (await fleet.ask(path, method))[0] == status
    assert fleet.knocks == 0


@pytest.mark.parametrize(
    ("sizes", "status"),
    [
        ([], 503),
        ([(1, 0), (1, 0)], 503),  # it has only been started
        ([(0, 0), (0, 0)], 200),
        ([(0, 0), (1, 0)], 200),  # somebody has woken it
        ([(1, 1), (1, 0)], 200),
    ],
)
async def test_a_fleet_is_well_once_it_has_been_there(
    fleet: Fleet, sizes: list[tuple[int, int]], status: int
) -> None:
    fleet.sizes = sizes
    assert (await fleet.ask("/health", "GET"))[0] == status


async def test_a_fleet_that_should_have_replicas_and_has_none_is_not_well(tmp_path: Path) -> None:
    assert (await Fleet(tmp_path, least=1).ask("/health", "GET"))[0] == 503


async def test_the_proxys_own_health_stays_its_own(fleet: Fleet) -> None:
    assert (await fleet.ask("/-/healthz", "GET"))[2] == "served"


async def test_a_browsers_preflight_is_not_asked_for_a_key(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, tenants=True)
    assert (await fleet.ask(method="OPTIONS"))[0] == 503
    assert (await fleet.ask())[0] == 401
    assert fleet.knocks == 0


async def test_a_wrong_tenants_file_leaves_the_proxy_well_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = Fleet(tmp_path, tenants=True)
    good = (tmp_path / "tenants.yaml").read_text()
    kept: list[Version] = []
    monkeypatch.setattr(activator, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(activator, "the_spec", lambda: fleet.spec)
    monkeypatch.setattr(SharedTenants, "read", lambda _: kept[0] if kept else None)
    monkeypatch.setattr(SharedTenants, "write", lambda _, version: True)
    (tmp_path / "tenants.yaml").write_text("tenants: 3")
    fleet.door = LateActivator(fleet._proxy)
    assert (await fleet.ask("/-/healthz", "GET"))[2] == "served"
    status, _, body = await fleet.ask(key=KEY)
    assert (status, body["error"]["code"]) == (503, "no_tenants")
    kept.append(Version(good, 1))
    assert (await fleet.ask(key=new_key()))[0] == 401
    assert (await fleet.ask("/v1/models", "GET", key=KEY))[0] == 503


async def test_the_status_says_why_there_is_none(fleet: Fleet) -> None:
    status, _, body = await fleet.ask("/forebay/status", "GET")
    assert status == 200
    assert body["replicas"] == []
    assert body["scaling"][-1]["reason"] == "no replica, no demand"


@pytest.mark.parametrize(
    ("query", "status", "told"),
    [(b"", 200, 20), (b"decisions=50", 200, 50), (b"decisions=many", 400, None)],
)
async def test_as_many_decisions_are_told_as_by_a_replica(
    fleet: Fleet, query: bytes, status: int, told: int | None
) -> None:
    found, _, body = await fleet.ask("/forebay/status", "GET", query=query)
    assert (found, fleet.told) == (status, told)
    assert status == 200 or body["error"]["code"] == "out_of_range"


async def test_a_log_that_does_not_answer_keeps_no_probe_waiting(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activator, "_ACTIVATE_S", 0.02)

    async def never(_: int) -> list[dict[str, Any]]:
        await asyncio.Event().wait()
        raise AssertionError

    fleet.door._decisions = never  # type: ignore[attr-defined]
    async with asyncio.timeout(1.0):
        assert (await fleet.ask("/health", "GET"))[0] == 503
        status, _, body = await fleet.ask("/forebay/status", "GET")
    assert (status, body["scaling"]) == (200, [])


async def test_to_be_knocked_at_again_and_again_the_log_is_looked_for_once_and_in_a_thread(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    async def activate(assumed_s: float) -> float:
        return 7.0

    def look(service: str) -> Any:
        threads.append(threading.current_thread())
        return Handle(activate=activate)

    monkeypatch.setattr(scaling_log, "scaling_log", look)
    fleet.door = activator.door(fleet._proxy, fleet.spec)
    waits = [int((await fleet.ask())[1]["retry-after"]) for _ in range(3)]
    assert 7 <= min(waits) <= max(waits) <= 9
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


async def test_who_has_no_key_starts_nothing(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, tenants=True)
    status, headers, _ = await fleet.ask(key=new_key())
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert (await fleet.ask("/forebay/status", "GET"))[0] == 401
    assert fleet.knocks == 0
    assert (await fleet.ask("/health", "GET"))[0] == 200
    assert (await fleet.ask(key=KEY))[0] == 503
    assert fleet.knocks == 1
