"""An emulated engine: `engine_model` played in real time behind the API of a real replica.

Everything in front of it is real: HAProxy, router, gate, tap, admission. Nothing here imports vllm,
torch or ray.llm, so a replica starts in seconds and takes little memory.
"""

from forebay.serving.emulated.cold_start import pass_cold_start
from forebay.serving.emulated.emulated_engine import STOP, EmulatedEngine
from forebay.serving.emulated.emulated_rates import teach
from forebay.serving.emulated.text import LONGEST_BYTES

__all__ = ["LONGEST_BYTES", "STOP", "EmulatedEngine", "pass_cold_start", "teach"]
