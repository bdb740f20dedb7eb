"""The engine behind the gate: hooks into it, warm-up, telemetry, what happens when it fails.

`vllm_engine` and `vllm_scheduler` import vllm, and are imported by their own names, late.
"""

from forebay.serving.engine.engine_hooks import CURRENT_TICKET, EngineHooks
from forebay.serving.engine.failed_engine import FailedEngine
from forebay.serving.engine.start_clock import StartClock
from forebay.serving.engine.telemetry import Backend, RayBackend, Telemetry, replica_name
from forebay.serving.engine.warm_up import OUTPUT_TOKENS

__all__ = [
    "CURRENT_TICKET",
    "OUTPUT_TOKENS",
    "Backend",
    "EngineHooks",
    "FailedEngine",
    "RayBackend",
    "StartClock",
    "Telemetry",
    "replica_name",
]
