"""Three emulated replicas behind real Ray Serve and HAProxy, their tenants, and their end."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
import yaml
from eventually import eventually
from serving_process import ServingProcess, running
from slow_client import drains_to_the_end

from forebay.spec.tenants import key_hash, new_key

KEYS = {"metered": new_key(), "free": new_key(), "single": new_key()}
FREE = {"authorization": f"Bearer {KEYS['free']}"}
QUOTA = 3_000  # tokens a minute
ANSWER = 20
MOST_BYTES = 300 * 10**6
REPLICA = "ray::ServeReplica:emulated:emulated"
SERVICE = Path(__file__).parent / "service.yaml"
_WAVES = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emulated")


@pytest.fixture(scope="module")
def fleet(folder: Path) -> Iterator[ServingProcess]:
    """The service; its last test interrupts it, and it must have stopped cleanly then."""
    pytest.importorskip("ray")
    tenants = [
        {"name": "metered", "key_hashes": [key_hash(KEYS["metered"])], "tokens_per_minute": QUOTA},
        {"name": "free", "key_hashes": [key_hash(KEYS["free"])]},
        {"name": "single", "key_hashes": [key_hash(KEYS["single"])], "max_concurrency": 1},
    ]
    (folder / "tenants.yaml").write_text(yaml.safe_dump({"tenants": tenants}))
    file = folder / "keyed.yaml"
    file.write_text(
        yaml.safe_dump({**yaml.safe_load(SERVICE.read_text()), "tenants": "tenants.yaml"})
    )
    with running(file, folder, drain="60s") as serving:
        yield serving


@pytest.fixture
def free_client(fleet: ServingProcess) -> Iterator[openai.OpenAI]:
    """OpenAI's own client with a key, without retries."""
    made = openai.OpenAI(base_url=f"{fleet.url}/v1", api_key=KEYS["free"], max_retries=0)
    with made:
        yield made


def status(service: ServingProcess) -> dict[str, Any]:
    """What the fleet tells of itself; nothing while it does not answer."""
    request = urllib.request.Request(f"{service.url}/forebay/status", headers=FREE)
    with contextlib.suppress(OSError, ValueError):
        with urllib.request.urlopen(request, timeout=15) as answer:
            found: dict[str, Any] = json.load(answer)
        return found
    return {"replicas": [], "classes": {}}


def replicas(service: ServingProcess) -> set[str]:
    """Those that publish and take requests."""
    return {one["replica"] for one in status(service)["replicas"] if not one["draining"]}


def processes(service: ServingProcess) -> list[psutil.Process]:
    """Of the replicas."""
    family = psutil.Process(service.process.pid).children(recursive=True)
    return [one for one in family if " ".join(one.cmdline()).startswith(REPLICA)]


def told_anew(service: ServingProcess) -> dict[str, Any]:
    """The state once every replica has told its own after now."""
    now = time.monotonic()  # one machine, so one such clock for all of its processes
    assert eventually(lambda: all(one["at_s"] > now for one in status(service)["replicas"]))
    return status(service)


def served(found: dict[str, Any]) -> float:
    """Requests finished in the fleet."""
    return float(sum(one["finished"] for one in found["classes"].values()))


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


def test_openais_client_gets_its_tokens(free_client: openai.OpenAI) -> None:
    asked: Any = {
        "model": "demo",
        "messages": [{"role": "user", "content": "hello there"}],
        "extra_body": {"ignore_eos": True},
    }
    answer = free_client.chat.completions.create(**asked, max_tokens=12)
    assert answer.usage.completion_tokens == 12
    stream = free_client.chat.completions.create(**asked, max_tokens=7, stream=True)
    assert sum(bool(event.choices[0].delta.content) for event in stream) == 7


def test_every_replica_is_used_and_the_fleet_adds_up(fleet: ServingProcess) -> None:
    assert eventually(lambda: len(replicas(fleet)) == 3)
    before = served(told_anew(fleet))
    asked = 0
    # A replica that is late with its news, as one that has just started may be, is passed over by
    # a wave that takes a fraction of a second: it gets its part of a later one.
    for _ in range(_WAVES):
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda n: ask(fleet, KEYS["free"], n), range(36)))
        asked += 36
        found = told_anew(fleet)
        assert served(found) == before + asked
        if all(one["output_tokens"] > 0 for one in found["replicas"]):
            break
    else:
        pytest.fail(f"a replica got none of {asked} requests: {found}")


def test_a_replica_is_small_and_has_no_engine_in_it(fleet: ServingProcess) -> None:
    found = processes(fleet)
    assert len(found) == 3
    for process in found:
        assert process.memory_info().rss < MOST_BYTES
        loaded = {one.path for one in process.memory_maps()}
        assert not any("libtorch" in path or "/vllm/" in path for path in loaded)


def test_no_key_no_answer(fleet: ServingProcess) -> None:
    assert ask(fleet, None)[0] == 401
    assert ask(fleet, new_key())[0] == 401
    assert ask(fleet, KEYS["free"])[0] == 200


def test_a_quota_holds_over_all_replicas_together(fleet: ServingProcess) -> None:
    assert ask(fleet, KEYS["metered"])[0] == 200, "refused before anybody has used anything"
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: ask(fleet, KEYS["metered"], n), range(400)))
    used = sum(tokens for _, tokens in found)
    assert 0.5 * QUOTA < used <= 1.05 * QUOTA
    assert {status for status, _ in found} == {200, 429}
    assert ask(fleet, KEYS["free"])[0] == 200


def test_a_typo_in_the_file_keeps_no_replica_from_starting(
    fleet: ServingProcess, folder: Path
) -> None:
    assert eventually(lambda: len(replicas(fleet)) == 3)
    before = replicas(fleet)
    good = (folder / "tenants.yaml").read_text()
    (folder / "tenants.yaml").write_text(good.replace("key_hashes", "key_hashs"))
    processes(fleet)[0].kill()
    assert eventually(lambda: len(now := replicas(fleet)) == 3 and now != before)
    assert {ask(fleet, KEYS["free"], number)[0] for number in range(30)} == {200}
    assert ask(fleet, new_key())[0] == 401
    # The one slot is not kept for the replica that died, of which nobody said goodbye.
    assert eventually(lambda: ask(fleet, KEYS["single"])[0] == 200)


def test_a_drain_cuts_no_answer_and_waits_for_who_reads_slowly(fleet: ServingProcess) -> None:
    told_anew(fleet)
    drains_to_the_end(fleet, FREE)
    assert fleet.ports_are_free()
