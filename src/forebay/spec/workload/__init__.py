"""The workload file: models, loading, changes from the command line."""

from forebay.spec.workload.workload_changes import changed, fixed_workload
from forebay.spec.workload.workload_loading import (
    built_in_names,
    built_in_text,
    load_workload,
    workload_text,
)
from forebay.spec.workload.workload_spec import TraceSpec, WorkloadSpec

__all__ = [
    "TraceSpec",
    "WorkloadSpec",
    "built_in_names",
    "built_in_text",
    "changed",
    "fixed_workload",
    "load_workload",
    "workload_text",
]
