"""An emulated engine: `engine_model` played in real time behind the API of a real replica.

Everything in front of it is real: HAProxy, router, gate, tap, admission. Nothing here imports vllm,
torch or ray.llm, so a replica starts in seconds and takes little memory.
"""
