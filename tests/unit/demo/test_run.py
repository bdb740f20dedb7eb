"""The demo's measuring: what was cut short is not told as if it were whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from forebay.demo import run as demo
from forebay.load.results import measured
from forebay.load.run import LoadPlan, LoadRun
from forebay.measure import ClientFacts
from forebay.measure.validity import judge
from forebay.serving.cluster import Platform
from forebay.spec.service import load_service


def interrupted(plan: LoadPlan, *_: Any, **__: Any) -> LoadRun:
    client = replace(ClientFacts(lag_p50_s=0.0, lag_p99_s=0.0, lag_max_s=0.0), interrupted=True)
    return LoadRun(
        records=[], client=client, validity=judge(client), started_at=0.0, duration_s=1.0,
        workload=plan.workload, salt="s",
    )  # fmt: skip


def test_who_interrupts_the_demo_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (demo, measured):
        monkeypatch.setattr(module, "run_load", interrupted)
    spec = load_service(Path("examples/demo.yaml"))
    there = SimpleNamespace(
        url="http://127.0.0.1:1/v1", spec=spec, spare_cores=set(), metrics_pages=[]
    )
    platform = cast(Platform, there)
    with pytest.raises(KeyboardInterrupt):
        demo.measure_capacity(platform)
    with pytest.raises(KeyboardInterrupt):
        demo.offer(platform, 10.0, lambda _: None)
