"""The service file's models: everything that `forebay.yaml` may say, its unit, and why its default.

Building one does no IO beyond looking whether the model source is a folder. What needs the model
folder's content, or several sections at once, is in `checks.py`.
"""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from forebay.spec.files import Strict, refusal
from forebay.spec.service.admission_spec import AdmissionSpec, ClassName, ClassSpec, SloSpec
from forebay.spec.service.hardware import HardwareSpec
from forebay.spec.service.model_spec import DEMO_MODEL, ModelSpec
from forebay.spec.service.server_spec import ScalingSpec, ServerSpec

__all__ = [
    "DEMO_MODEL",
    "AdmissionSpec",
    "ClassName",
    "ClassSpec",
    "HardwareSpec",
    "ModelSpec",
    "ScalingSpec",
    "ServerSpec",
    "ServiceSpec",
    "SloSpec",
]

_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class ServiceSpec(Strict):
    """One service: a model, where it runs, what it promises, whom it admits, how it scales."""

    name: str = Field(
        examples=["my-service"],
        description="Name of the service: lower-case letters, digits and `-`, at most 63, so that "
        "it can name a Kubernetes object.",
    )
    model: ModelSpec = Field(description="Which model is served, and how its engine is set.")
    hardware: HardwareSpec = Field(
        default_factory=HardwareSpec, description="What one replica runs on. Default: CPU."
    )
    slo: SloSpec = Field(
        default_factory=SloSpec,
        description="What users are promised. Default: first token in 1s, then 5 tokens a second.",
    )
    admission: AdmissionSpec = Field(
        default_factory=AdmissionSpec,
        description="When the gate admits and when it sheds. Default: derived from the SLO.",
    )
    scaling: ScalingSpec = Field(
        default_factory=ScalingSpec, description="How many replicas. Default: one."
    )
    server: ServerSpec = Field(
        default_factory=ServerSpec,
        description="The HTTP server. Default: this machine only, port 8000.",
    )
    tenants: str | None = Field(
        default=None,
        min_length=1,
        examples=["tenants.yaml"],
        description="File of the tenants and their keys, relative to this file; `forebay keys "
        "create NAME` makes it, and has to come first. On a cluster it is read at this path on "
        "every node that has a replica, and on the head. Default: open, anyone who reaches the "
        "server may use it.",
    )

    @field_validator("name")
    @classmethod
    def _name_is_a_dns_label(cls, name: str) -> str:
        if _DNS_LABEL.fullmatch(name):
            return name
        raise refusal(
            f"{name!r} cannot name a service",
            "write at most 63 lower-case letters, digits and -, a letter or digit at both ends",
        )

    @field_validator("tenants")
    @classmethod
    def _tenants_count_from_the_files_folder(
        cls, file: str | None, info: ValidationInfo
    ) -> str | None:
        if file is None:
            return None
        return str(((info.context or {}).get("folder", Path()) / file).absolute())

    @property
    def cache_isolation(self) -> Literal["shared", "tenant"]:
        """Who shares prefixes in the cache: as written, or by whether there are tenants."""
        by_tenants: Literal["shared", "tenant"] = "shared" if self.tenants is None else "tenant"
        return self.admission.cache_isolation or by_tenants

    def ttft_budget(self, class_name: str) -> float:
        """Seconds within which a request of this class should see its first token."""
        own = self.admission.classes[class_name].ttft  # type: ignore[index]
        return self.model.slowed * (self.slo.ttft_p99 if own is None else own)

    def deadline(self, class_name: str) -> float:
        """Seconds after which a request of this class without a first token is aborted."""
        own = self.admission.deadline
        return 2 * self.ttft_budget(class_name) if own is None else self.model.slowed * own
