"""Needs vLLM installed: the argument table that Forebay ships is that vLLM's own."""

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

pytest.importorskip("vllm")

TOOL = Path(__file__).parents[2] / "tools/gen_engine_args.py"


def test_the_shipped_arguments_are_those_of_the_installed_vllm() -> None:
    done = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, check=False)
    assert done.returncode == 0, "stale; run tools/gen_engine_args.py"


def test_ray_deals_out_exactly_these_names() -> None:
    """Ray Serve LLM accepts an engine argument when it is a field of one of these two classes."""
    import dataclasses

    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import FrontendArgs

    shipped = json.loads(resources.files("forebay.spec").joinpath("engine_args.json").read_text())
    for group, cls in (("engine", AsyncEngineArgs), ("frontend", FrontendArgs)):
        fields = {one.name for one in dataclasses.fields(cls) if not one.name.startswith("_")}
        assert set(shipped[group]) == fields
