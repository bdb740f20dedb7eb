"""Needs vLLM installed: the argument table that Forebay ships is that vLLM's own."""

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from forebay.policies.request import part_tokens

TOOL = Path(__file__).parents[2] / "tools/gen_engine_args.py"


def test_the_shipped_arguments_are_those_of_the_installed_vllm() -> None:
    done = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, check=False)
    assert done.returncode == 0, "stale; run tools/gen_engine_args.py"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_prompts_are_cut_on_request_unless_the_file_says_otherwise(asynchronous: bool) -> None:
    from vllm.config import SchedulerConfig

    from forebay.serving.engine.vllm_engine import heeds_marks, schedule_by_marks
    from forebay.serving.engine.vllm_scheduler import AsyncForebayScheduler, ForebayScheduler

    def config(**changes: Any) -> SchedulerConfig:
        made = SchedulerConfig(
            max_model_len=4096,
            is_encoder_decoder=False,
            max_num_batched_tokens=2048,
            async_scheduling=asynchronous,
            **changes,
        )
        schedule_by_marks(made)
        return made

    ours = config()
    assert ours.long_prefill_token_threshold == part_tokens(2048)
    chosen = AsyncForebayScheduler if asynchronous else ForebayScheduler
    assert ours.get_scheduler_cls() is chosen
    assert heeds_marks(ours)
    theirs = config(long_prefill_token_threshold=512)
    assert not heeds_marks(theirs)
    assert (theirs.long_prefill_token_threshold, theirs.scheduler_cls) == (512, None)


def test_ray_deals_out_exactly_these_names() -> None:
    """Ray Serve LLM accepts an engine argument when it is a field of one of these two classes."""
    import dataclasses

    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import FrontendArgs

    shipped = json.loads(resources.files("forebay.spec").joinpath("engine_args.json").read_text())
    for group, cls in (("engine", AsyncEngineArgs), ("frontend", FrontendArgs)):
        fields = {one.name for one in dataclasses.fields(cls) if not one.name.startswith("_")}
        assert set(shipped[group]) == fields
