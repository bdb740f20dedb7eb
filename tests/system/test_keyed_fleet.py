"""Tenants of a fleet of three emulated replicas: keys, and one quota for all of them together."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import yaml
from eventually import eventually
from serving_process import ServingProcess, running

from forebay.spec.tenants import key_hash, new_key

KEYS = {"metered": new_key(), "free": new_key(), "single": new_key()}
QUOTA = 3_000  # tokens a minute
ANSWER = 20
SERVICE = Path(__file__).parent / "service.yaml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keyed")


@pytest.fixture(scope="module")
def keyed(folder: Path) -> Iterator[ServingProcess]:
    tenants = [
        {"name": "metered", "key_hashes": [key_hash(KEYS["metered"])], "tokens_per_minute": QUOTA},
        {"name": "free", "key_hashes": [key_hash(KEYS["free"])]},
        {"name": "single", "key_hashes": [key_hash(KEYS["single"])], "max_concurrency": 1},
    ]
    (folder / "tenants.yaml").write_text(yaml.safe_dump({"tenants": tenants}))
    spec = {**yaml.safe_load(SERVICE.read_text()), "name": "keyed", "tenants": "tenants.yaml"}
    file = folder / "keyed.yaml"
    file.write_text(yaml.safe_dump(spec))
    with running(file, folder) as serving:
        yield serving


def ask(service: ServingProcess, key: str | None, number: int = 0) -> tuple[int, int]:
    """Status, and the tokens that the answer took."""
    body = {"model": "demo", "prompt": f"number {number}", "max_tokens": ANSWER, "ignore_eos": True}
    headers = {"content-type": "application/json"}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    request = urllib.request.Request(
        f"{service.url}/v1/completions", json.dumps(body).encode(), headers
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return 200, json.load(answer)["usage"]["total_tokens"]
    except urllib.error.HTTPError as error:
        return error.code, 0


def test_no_key_no_answer(keyed: ServingProcess) -> None:
    assert ask(keyed, None)[0] == 401
    assert ask(keyed, new_key())[0] == 401
    assert ask(keyed, KEYS["free"])[0] == 200


def test_a_quota_holds_over_all_replicas_together(keyed: ServingProcess) -> None:
    assert ask(keyed, KEYS["metered"])[0] == 200, "refused before anybody has used anything"
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: ask(keyed, KEYS["metered"], n), range(400)))
    used = sum(tokens for _, tokens in found)
    assert 0.5 * QUOTA < used <= 1.05 * QUOTA
    assert {status for status, _ in found} == {200, 429}
    assert ask(keyed, KEYS["free"])[0] == 200


def replicas(service: ServingProcess) -> set[str]:
    """Those that publish and take requests."""
    request = urllib.request.Request(
        f"{service.url}/forebay/status", headers={"authorization": f"Bearer {KEYS['free']}"}
    )
    with contextlib.suppress(OSError, ValueError):
        with urllib.request.urlopen(request, timeout=15) as answer:
            told = json.load(answer)["replicas"]
        return {one["replica"] for one in told if not one["draining"]}
    return set()


def test_a_typo_in_the_file_keeps_no_replica_from_starting(
    keyed: ServingProcess, folder: Path
) -> None:
    assert eventually(lambda: len(replicas(keyed)) == 3)
    before = replicas(keyed)
    good = (folder / "tenants.yaml").read_text()
    (folder / "tenants.yaml").write_text(good.replace("key_hashes", "key_hashs"))
    victim = next(
        process
        for process in psutil.Process(keyed.process.pid).children(recursive=True)
        if " ".join(process.cmdline()).startswith("ray::ServeReplica:keyed:keyed")
    )
    victim.kill()
    assert eventually(lambda: len(now := replicas(keyed)) == 3 and now != before)
    assert {ask(keyed, KEYS["free"], number)[0] for number in range(30)} == {200}
    assert ask(keyed, new_key())[0] == 401
    # The one slot is not kept for the replica that died, of which nobody said goodbye.
    assert eventually(lambda: ask(keyed, KEYS["single"])[0] == 200)
