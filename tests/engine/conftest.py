"""Needs ray and vllm (`make setup`); one running service is shared by all tests of the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("ray")
pytest.importorskip("vllm")

import openai
from serving_process import ENGINE_SERVICE, ServingProcess


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    """A `forebay serve` that is ready."""
    serving = ServingProcess(ENGINE_SERVICE, tmp_path_factory.mktemp("service"))
    try:
        serving.wait_for("Ctrl-C drains")
        yield serving
        assert serving.interrupt() == 0, "\n".join(serving.lines[-40:])
        assert serving.leftovers() == []
    finally:
        serving.end()


@pytest.fixture
def client(service: ServingProcess) -> Iterator[openai.OpenAI]:
    """OpenAI's own client, without retries."""
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0) as made:
        yield made
