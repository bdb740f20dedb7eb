"""What a cluster's key-value store is told of a service, and what is made of what it holds."""

from __future__ import annotations

import json
import logging
import pickle
from typing import Any

import pytest
from ray.experimental import internal_kv

from forebay.serving import cluster_kv
from forebay.serving.control import SharedTenants
from forebay.spec.service import ServiceSpec
from forebay.spec.tenants import Version

SPEC = {
    "name": "s",
    "model": {"id": "m", "source": "demo-cpu", "engine": "emulated", "cold_start": "1.5s"},
    "tenants": "tenants.yaml",
    "scaling": {
        "max": 3,
        "schedule": [
            {"min": 2, "cron": "30 8 * * mon-fri", "for": "2h", "zone": "Europe/Berlin"},
            {"min": 3, "from": "2026-12-01T08:30Z", "until": "2026-12-01T10:00Z"},
        ],
    },
}
WORDS = "in no form that is known here"


class Bomb:
    """Whoever unpickles it runs what it says."""

    def __reduce__(self) -> Any:
        return (pytest.fail, ("code from the store was run",))


FOREIGN = {
    "a pickle that runs code": pickle.dumps(Bomb()),
    "a pickle of ours": pickle.dumps(Version("tenants: []", 1)),
    "no text": b"\x00broken\xff",
    "cut JSON": b'{"text": "tenants: []"',
    "a list": b"[1]",
    "a part": json.dumps({"text": "tenants: []"}).encode(),
    "another type": json.dumps({"text": "tenants: []", "put_ns": "1"}).encode(),
    "a later version": json.dumps({"text": "tenants: []", "put_ns": 1, "of": "it"}).encode(),
}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, bytes]:
    """A cluster's, without the cluster."""
    kept: dict[bytes, bytes] = {}

    def put(key: bytes, value: bytes, overwrite: bool, *, namespace: bytes) -> bool:
        there_was = key in kept
        if overwrite or not there_was:
            kept[key] = value
        return there_was

    monkeypatch.setattr(internal_kv, "_internal_kv_get", lambda key, *, namespace: kept.get(key))
    monkeypatch.setattr(internal_kv, "_internal_kv_put", put)
    monkeypatch.setattr(
        internal_kv, "_internal_kv_del", lambda key, *, namespace: kept.pop(key, None)
    )
    return kept


def test_a_service_is_told_as_it_is(store: dict[bytes, bytes]) -> None:
    assert cluster_kv.the_spec() is None
    cluster_kv.tell_spec(spec := ServiceSpec.model_validate(SPEC))
    assert cluster_kv.the_spec() == spec


@pytest.mark.parametrize("value", FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_service_is_none_and_said_once(
    store: dict[bytes, bytes], caplog: pytest.LogCaptureFixture, value: bytes
) -> None:
    cluster_kv._spec.cache_clear()
    cluster_kv.tell_spec(ServiceSpec.model_validate(SPEC))
    store.update(dict.fromkeys(store, value))
    with caplog.at_level(logging.WARNING, logger="ray.serve"):
        assert [cluster_kv.the_spec() for _ in range(3)] == [None] * 3
    assert caplog.text.count(WORDS) == 1


def test_a_version_of_the_tenants_file_is_shared_until_it_is_forgotten(
    store: dict[bytes, bytes],
) -> None:
    mine, others = SharedTenants("s"), SharedTenants("s")
    assert others.read() is None
    assert mine.write(
        version := Version("tenants: []  # für niemanden\n", 1_795_963_623_150_000_001)
    )
    assert others.read() == version
    assert SharedTenants("another").read() is None
    others.forget()
    assert mine.read() is None


@pytest.mark.parametrize("value", FOREIGN.values(), ids=FOREIGN)
def test_a_version_of_another_make_is_none_said_once_and_replaced(
    store: dict[bytes, bytes], caplog: pytest.LogCaptureFixture, value: bytes
) -> None:
    shared = SharedTenants("s")
    shared.write(version := Version("tenants: []", 2))
    store.update(dict.fromkeys(store, value))
    with caplog.at_level(logging.WARNING, logger="ray.serve"):
        assert [shared.read() for _ in range(3)] == [None] * 3
    assert caplog.text.count(WORDS) == 1
    assert shared.write(version)
    assert shared.read() == version


def test_a_store_that_is_away_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the head is gone")

    monkeypatch.setattr(internal_kv, "_internal_kv_get", away)
    monkeypatch.setattr(internal_kv, "_internal_kv_put", away)
    assert SharedTenants("s").read() is None
    assert not SharedTenants("s").write(Version("tenants: []", 1))


def test_only_the_first_ledger_of_a_fleet_is_one(store: dict[bytes, bytes]) -> None:
    assert cluster_kv.is_first_ledger("s")
    assert not cluster_kv.is_first_ledger("s")
    cluster_kv.forget_ledger("s")
    assert cluster_kv.is_first_ledger("s")


def test_a_start_is_as_far_as_was_reported_last(store: dict[bytes, bytes]) -> None:
    assert cluster_kv.reached("s") is None
    cluster_kv.report("s", "engine")
    cluster_kv.report("s", "ready")
    assert cluster_kv.reached("s") == "ready"
    assert cluster_kv.reached("another") is None
