"""Every route of the real vLLM app is costed, free, or closed for a stated reason."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import pytest

from forebay.serving.http import COSTED
from forebay.serving.http.routes import CLOSED, FREE, TOKENIZER, undecided
from forebay.spec.service.service_spec import DEMO_MODEL


@pytest.fixture(scope="module")
def paths() -> set[str]:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.app import build_app
    from vllm.entrypoints.launchers.cli_args import FrontendArgs

    engine = AsyncEngineArgs(model=str(DEMO_MODEL), block_size=32, max_model_len=512)
    config = engine.create_engine_config()
    args = argparse.Namespace(**(vars(FrontendArgs()) | vars(engine)))
    app = build_app(args, supported_tasks=("generate",), model_config=config.model_config)
    return set(_paths(app.routes))


def _paths(routes: Any) -> Iterator[str]:
    for route in routes:
        if nested := getattr(route, "routes", None):
            yield from _paths(nested)
        elif path := getattr(route, "path", None):
            yield path


def test_no_route_is_undecided(paths: set[str]) -> None:
    assert undecided(paths) == []


def test_what_is_listed_exists(paths: set[str]) -> None:
    assert sorted((COSTED | FREE | TOKENIZER | set(CLOSED)) - paths) == []
