"""Needs ray (`make setup`), and no vLLM; one running service is shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray")

import openai
from serving_process import ServingProcess


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    """A `forebay serve` with emulated engines that is ready."""
    file = Path(__file__).parent / "service.yaml"
    serving = ServingProcess(file, tmp_path_factory.mktemp("emulated"))
    try:
        serving.wait_for("Ctrl-C drains")
        yield serving
        assert serving.interrupt() == 0, "\n".join(serving.lines[-40:])
        assert serving.leftovers() == []
    finally:
        serving.end()


@pytest.fixture
def client(emulated: ServingProcess) -> Iterator[openai.OpenAI]:
    """OpenAI's own client, without retries."""
    with openai.OpenAI(base_url=f"{emulated.url}/v1", api_key="none", max_retries=0) as made:
        yield made
