"""What tests of several files share: running services above all.

On two cores a service took 75 s to start alone, and 100 s beside another that only stood there. So
the engine's tests that share one come first in their folder, and it ends behind the last of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import openai
import pytest
from hypothesis import HealthCheck, settings
from ray_cluster import Cluster
from serving_process import ENGINE_SERVICE, ServingProcess, openai_client, running

# How fast a busy machine makes examples says nothing of what they test: in a fresh checkout the
# very first ones wait seconds for hypothesis to build its tables.
settings.register_profile("forebay", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("forebay")

ENGINE_TESTS = Path(__file__).parent / "engine"


def uses(item: pytest.Item, fixture: str) -> bool:
    """Whether a test asks for a fixture, itself or through another."""
    return fixture in getattr(item, "fixturenames", ())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the engine's tests first those that share the service, and last of these who kills it."""
    places = [place for place, item in enumerate(items) if item.path.parent == ENGINE_TESTS]
    ordered = sorted(
        (items[place] for place in places),
        key=lambda item: (not uses(item, "shared_service"), uses(item, "doomed_service")),
    )
    for place, item in zip(places, ordered, strict=True):
        items[place] = item


@pytest.fixture(scope="session")
def shared_service(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[ServingProcess, ExitStack]]:
    """The demo model on vLLM (`make setup`), and what ends it before the session does."""
    pytest.importorskip("vllm")
    with ExitStack() as stack:
        started = running(ENGINE_SERVICE, tmp_path_factory.mktemp("service"))
        yield stack.enter_context(started), stack


@pytest.fixture
def service(
    shared_service: tuple[ServingProcess, ExitStack], request: pytest.FixtureRequest
) -> Iterator[ServingProcess]:
    """The demo model on vLLM; the last test that asks for it ends it."""
    serving, stack = shared_service
    yield serving
    items = request.session.items
    if not any(uses(item, "shared_service") for item in items[items.index(request.node) + 1 :]):
        stack.close()


@pytest.fixture
def doomed_service(service: ServingProcess) -> ServingProcess:
    """The same for a test that kills its engine."""
    return service


@pytest.fixture
def client(service: ServingProcess) -> Iterator[openai.OpenAI]:
    """OpenAI's own client of the demo model, without retries."""
    with openai_client(service) as made:
        yield made


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A Ray cluster that runs already."""
    pytest.importorskip("ray")
    made = Cluster()
    try:
        yield made
    finally:
        made.end()
