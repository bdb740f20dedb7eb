"""docs/reference/status.md names every field of the status and every column of `forebay top`."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from forebay.observability.console import tables
from forebay.observability.status import ClassStatus, ReplicaStatus, fleet_status
from forebay.policies.scaling import ScalingRecord
from forebay.serving.engine.start_clock import PHASES

PAGE = (Path(__file__).parents[4] / "docs/reference/status.md").read_text()


def section(title: str) -> set[str]:
    """Everything that a section writes as code."""
    text = re.split(r"^## ", PAGE, flags=re.M)
    (found,) = [one for one in text if one.startswith((title, "# " + title))]
    return set(re.findall(r"`([^`]+)`", found))


def test_every_field_is_explained() -> None:
    assert set(fleet_status("s", [])) <= section("The fleet's status")
    assert set(ClassStatus.__annotations__) <= section("Of a class")
    assert set(ReplicaStatus.__annotations__) <= section("Of a replica")
    assert set(PHASES) <= section("Of a replica")
    decision = {field.name for field in fields(ScalingRecord)} | {"target", "reason"}
    assert decision <= section("Of a decision")


def test_every_column_of_top_is_explained() -> None:
    one: dict[str, Any] = {
        "predicted_ttft_s": {"least": 0.1, "most": 0.1},
        "shed": {},
        "queued": 0,
        "running": 0,
        "queued_tokens": 0,
        "budget_s": 1.0,
    }
    replica = dict.fromkeys(ReplicaStatus.__annotations__, 0) | {
        "replica": "r",
        "classes": {},
        "start_s": {},
    }
    decision = {
        "target": 1, "ready": 1, "before": 1, "wanted": None, "seen": None, "reason": "",
        "cold_start": {"mean_s": 1.0, "deviation_s": 0.0},
    }  # fmt: skip
    status = {
        "classes": {"interactive": one},
        "replicas": [replica],
        "scaling": [decision],
        "tenants": {"t": {"tokens": 1.0, "share": 1.0}},
    }
    shown = {column for table in tables(status, None) for column in table.columns[1:] if column}
    assert len(shown) > 15
    first = {table.columns[0] for table in tables(status, None)}
    assert shown | (first & {"target"}) <= section("Columns of")
