"""The service file: models, loading, checks, what follows from them."""

from forebay.spec.service.fields import FieldDoc, field_docs
from forebay.spec.service.floor_spec import FloorSpec
from forebay.spec.service.loading import load_service, load_service_text
from forebay.spec.service.memory import demand
from forebay.spec.service.model_folder import read_model_folder, weight_files
from forebay.spec.service.placement import emulated_cpus, placement_bundles, rays_name
from forebay.spec.service.scaling_spec import declared_capacity, scaling_policy
from forebay.spec.service.server_spec import CapacitySpec
from forebay.spec.service.service_spec import ServiceSpec
from forebay.spec.service.service_summary import as_json, summarize, tenants_line
from forebay.spec.service.starter import as_yaml, starter_text

__all__ = [
    "CapacitySpec",
    "FieldDoc",
    "FloorSpec",
    "ServiceSpec",
    "as_json",
    "as_yaml",
    "declared_capacity",
    "demand",
    "emulated_cpus",
    "field_docs",
    "load_service",
    "load_service_text",
    "placement_bundles",
    "rays_name",
    "read_model_folder",
    "scaling_policy",
    "starter_text",
    "summarize",
    "tenants_line",
    "weight_files",
]
