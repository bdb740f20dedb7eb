"""What a service file says of its promises and limits is what its replicas keep to."""

from __future__ import annotations

from typing import Any

import services
from gate_world import responding
from services import limits

from forebay.policies.request import BATCH, INTERACTIVE, AdmissionConfig, ClassPolicy, CostModel
from forebay.serving.app import Replica
from forebay.serving.app.build import deployment_options
from forebay.spec.service import ServiceSpec

LIMITS = limits(slots=7, heeds_marks=False)
SLOWED = 2.0
ADMISSION: dict[str, Any] = {
    "margin": 0.35,
    "max_queued_tokens": 4_321,
    "batch_stretch": 1.9,
    "default_output_tokens": 77,
    "max_output_tokens": 999,
    "max_n": 3,
    "deadline": "90s",
    "classes": {
        "interactive": {"weight": 5, "ttft": "700ms"},
        "batch": {"weight": 2, "ttft": "50s"},
    },
}


def service(**more: Any) -> ServiceSpec:
    return services.service(model={**services.MODEL, "slowed": SLOWED}, **more)


def replica(spec: ServiceSpec) -> Replica:
    return services.replica(spec, LIMITS)


def test_every_setting_of_admission_reaches_it() -> None:
    made = replica(service(admission=ADMISSION, slo={"tpot_p99": "80ms"}))
    assert made.admission.config == AdmissionConfig(
        classes={
            INTERACTIVE: ClassPolicy(SLOWED * 0.7, SLOWED * 90.0, 5.0),
            BATCH: ClassPolicy(SLOWED * 50.0, SLOWED * 90.0, 2.0),
        },
        slots=7,
        kv_tokens=10_000,
        step_tokens=512,
        margin=0.35,
        tpot_s=SLOWED * 0.08,
        max_queued_tokens=4_321,
        batch_stretch=1.9,
        heeds_marks=False,
    )
    told, asked = made.admission.costs, CostModel(2_048, 77)
    assert told.context_tokens == asked.context_tokens
    assert told.outputs.expected_total(0, 2_048) == asked.outputs.expected_total(0, 2_048)


def test_what_a_class_leaves_open_follows_from_the_slo() -> None:
    made = replica(service(slo={"ttft_p99": "3s"}))
    promised = made.admission.config.classes[INTERACTIVE]
    assert (promised.ttft_s, promised.deadline_s) == (SLOWED * 3.0, SLOWED * 6.0)


async def test_every_limit_on_requests_reaches_the_gate() -> None:
    server = {"max_body": "2KiB", "max_json_depth": 5}
    made = replica(service(admission=ADMISSION, server=server))
    limits = made.gate(responding(200, b"{}"))._limits
    assert (limits.max_body, limits.max_depth, limits.max_samples) == (2_048, 5, 3)
    assert (limits.context_tokens, limits.max_output_tokens) == (2_048, 999)
    assert limits.longest_token == 9


def test_a_replica_that_leaves_has_the_longer_of_the_two_drains() -> None:
    for server_s, scaling_s in ((7, 40), (40, 7)):
        spec = service(server={"drain": f"{server_s}s"}, scaling={"drain": f"{scaling_s}s"})
        assert deployment_options(spec)["graceful_shutdown_timeout_s"] == 40.0
