"""A request as policies see it: its cost, its ticket, how long answers are."""

from forebay.policies.request.answer_lengths import Floats, OutputModel
from forebay.policies.request.cost import Cost, CostModel, RequestShape
from forebay.policies.request.decisions import (
    BATCH,
    INTERACTIVE,
    AdmissionConfig,
    Admitted,
    ClassPolicy,
    Decision,
    Shed,
    ShedReason,
    StepOutput,
)
from forebay.policies.request.isolation import cache_salt
from forebay.policies.request.prompt_parts import Cutting, part_tokens
from forebay.policies.request.shared_prefixes import CHUNK, Chunks, SharedPrefixes, prompt_chunks
from forebay.policies.request.tickets import Sequence, Ticket

__all__ = [
    "BATCH",
    "CHUNK",
    "INTERACTIVE",
    "AdmissionConfig",
    "Admitted",
    "Chunks",
    "ClassPolicy",
    "Cost",
    "CostModel",
    "Cutting",
    "Decision",
    "Floats",
    "OutputModel",
    "RequestShape",
    "Sequence",
    "SharedPrefixes",
    "Shed",
    "ShedReason",
    "StepOutput",
    "Ticket",
    "cache_salt",
    "part_tokens",
    "prompt_chunks",
]
