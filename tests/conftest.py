"""What tests of several files share: services and clusters that run, and who comes after whom.

On two cores a service took 75 s to start alone, and 100 s beside another that only stood there. So
the tests that share one follow each other, and it ends behind the last of them. With pytest-xdist
one worker runs all that start Ray, after everything else.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import openai
import pytest
from hypothesis import HealthCheck, settings
from ray_cluster import Cluster, ray_cluster
from serving_process import ENGINE_SERVICE, ServingProcess, openai_client, running

T = TypeVar("T")

# How fast a busy machine makes examples says nothing of what they test: in a fresh checkout the
# very first ones wait seconds for hypothesis to build its tables.
settings.register_profile("full", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("full"), max_examples=30)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "full"))

# A shell starts what is followed by `&` with SIGINT ignored, and so would all that is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

HERE = Path(__file__).parent
ON_RAY = (HERE / "engine", HERE / "system")
SHARED = ("cluster", "shared_service")
_standing: dict[str, ExitStack] = {}


def uses(item: pytest.Item, fixture: str) -> bool:
    """Whether a test asks for a fixture, itself or through another."""
    return fixture in getattr(item, "fixturenames", ())


def _place(item: pytest.Item) -> tuple[bool, ...]:
    if item.path.parent not in ON_RAY:
        return (False,)
    shared = (uses(item, one) for one in SHARED)
    return (True, *shared, uses(item, "doomed_service"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First those that start nothing; of those that share a service, last who kills it."""
    items.sort(key=_place)
    # vLLM is not imported to see whether it is there: that takes seconds of every worker.
    missing = [name for name in ("ray", "vllm") if find_spec(name) is None]
    for item in items if missing else ():
        if item.path.parent in ON_RAY:
            item.add_marker(pytest.mark.skip(reason=f"{missing} not installed"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """A file at a time for each worker, and of all files that start Ray one by one."""
    from xdist.scheduler import LoadScopeScheduling

    class OnePlatform(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = Path(nodeid.partition("::")[0])
            return "on Ray" if config.rootpath / file.parent in ON_RAY else str(file)

    return OnePlatform(config, log)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """End what the next test does not share."""
    for name, stack in _standing.items():
        if nextitem is None or not uses(nextitem, name):
            stack.close()


@contextmanager
def shared(name: str, started: AbstractContextManager[T]) -> Iterator[T]:
    """What stands until a test follows that does not use the fixture of this name."""
    with ExitStack() as _standing[name]:
        yield _standing[name].enter_context(started)


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    """The demo model on vLLM (`make setup`)."""
    started = running(ENGINE_SERVICE, tmp_path_factory.mktemp("service"))
    with shared("shared_service", started) as serving:
        yield serving


@pytest.fixture
def service(shared_service: ServingProcess) -> ServingProcess:
    """The demo model on vLLM."""
    return shared_service


@pytest.fixture
def doomed_service(shared_service: ServingProcess) -> ServingProcess:
    """The same for a test that kills its engine."""
    return shared_service


@pytest.fixture
def client(service: ServingProcess) -> Iterator[openai.OpenAI]:
    """OpenAI's own client of the demo model, without retries."""
    with openai_client(service) as made:
        yield made


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A Ray cluster that runs already; every test leaves it as it was."""
    with shared("cluster", ray_cluster()) as made:
        yield made
