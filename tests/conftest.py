"""Running services, each shared by all tests of the session that ask for it.

`service` needs ray and vllm (`make setup`), `emulated` ray alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
from hypothesis import HealthCheck, settings
from ray_cluster import Cluster
from serving_process import ENGINE_SERVICE, ServingProcess

# How fast a busy machine makes examples says nothing of what they test: in a fresh checkout the
# very first ones wait seconds for hypothesis to build its tables.
settings.register_profile("forebay", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("forebay")

EMULATED_SERVICE = Path(__file__).parent / "system" / "service.yaml"


@contextmanager
def running(file: Path, folder: Path) -> Iterator[ServingProcess]:
    """A `forebay serve` that is ready; it must stop cleanly and leave nothing."""
    serving = ServingProcess(file, folder)
    try:
        serving.wait_for("Ctrl-C drains")
        yield serving
        assert serving.interrupt() == 0, "\n".join(serving.lines[-40:])
        assert serving.leftovers() == []
    finally:
        serving.end()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    """The demo model on vLLM."""
    pytest.importorskip("vllm")
    with running(ENGINE_SERVICE, tmp_path_factory.mktemp("service")) as serving:
        yield serving


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    """Three emulated replicas."""
    pytest.importorskip("ray")
    with running(EMULATED_SERVICE, tmp_path_factory.mktemp("emulated")) as serving:
        yield serving


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A Ray cluster that runs already."""
    pytest.importorskip("ray")
    made = Cluster()
    try:
        yield made
    finally:
        made.end()


@pytest.fixture
def client(service: ServingProcess) -> Iterator[openai.OpenAI]:
    """OpenAI's own client of the demo model, without retries."""
    with openai_client(service) as made:
        yield made


@pytest.fixture
def emulated_client(emulated: ServingProcess) -> Iterator[openai.OpenAI]:
    """The same of the emulated replicas."""
    with openai_client(emulated) as made:
        yield made


def openai_client(serving: ServingProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{serving.url}/v1", api_key="none", max_retries=0)
