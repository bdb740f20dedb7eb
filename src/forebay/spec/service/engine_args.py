"""Checks `model.engine_args` against the names, types and limits of vLLM's own arguments.

They are read from `engine_args.json`, generated from the pinned vLLM by `tools/gen_engine_args.py`,
so that a mistyped argument is refused here in milliseconds and not by an engine after a minute.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

from forebay.spec.files import Fault, did_you_mean

_QUEUE_BOUND = (
    "Forebay's gate bounds the queue, by predicted time to first token and with a Retry-After",
    "remove it, or set admission.max_queued_tokens",
)
_LISTENER = ("vLLM does not listen here, the proxy in front does", "see server.host and port")
_PLACEMENT = ("Ray places the workers", "set tensor_parallel_size and pipeline_parallel_size")

# Arguments that Forebay decides itself: why, and what to do instead.
_OURS: dict[str, tuple[str, str]] = {
    "model": ("Forebay takes it from model.source", "remove it"),
    "served_model_name": ("Forebay takes it from model.id", "remove it"),
    "distributed_executor_backend": ("Forebay chooses it by the hardware", "remove it"),
    "max_num_queued_reqs": _QUEUE_BOUND,
    "max_num_queued_tokens": _QUEUE_BOUND,
    "api_key": (
        "vLLM's key check leaves some routes open, so who may ask is decided at Forebay's gate",
        "remove it",
    ),
    "host": _LISTENER,
    "port": _LISTENER,
    "uds": _LISTENER,
    "enable_ssl_refresh": _LISTENER,
    "uvicorn_log_level": _LISTENER,
    "disable_uvicorn_access_log": _LISTENER,
    "disable_access_log_for_endpoints": _LISTENER,
    "nnodes": _PLACEMENT,
    "node_rank": _PLACEMENT,
    "master_addr": _PLACEMENT,
    "master_port": _PLACEMENT,
}
_OUR_PREFIXES: dict[str, tuple[str, str]] = {
    "data_parallel_": ("Forebay scales by whole replicas", "set scaling.min and scaling.max"),
    "dp_supervisor_": ("Forebay scales by whole replicas", "set scaling.min and scaling.max"),
    "ssl_": ("Forebay listens, in plain HTTP", "end TLS in a proxy in front of it"),
    "h11_": ("Forebay's gate limits requests", "see server.max_body"),
}

# Arguments of which Forebay needs one value.
_FIXED: dict[str, tuple[object, str]] = {
    "scheduling_policy": ("priority", "Forebay orders the queue by priority"),
    "disable_log_stats": (True, "Forebay counts at its own tap; a second count costs CPU"),
}

_TYPE_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list": "a list",
    "dict": "a mapping",
}
_BOUND_WORDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


@cache
def known_args() -> Mapping[str, Mapping[str, Any]]:
    """Every argument that vLLM knows, with its types, choices and bounds."""
    text = resources.files("forebay.spec").joinpath("engine_args.json").read_text("utf-8")
    described = json.loads(text)
    return {**described["frontend"], **described["engine"]}


def offered_args() -> list[str]:
    """The arguments that a service file may set."""
    return [name for name in known_args() if _owner(name) is None]


def faults(args: Mapping[str, Any]) -> list[Fault]:
    """Every argument that is unknown, Forebay's own, of a wrong type, or out of range."""
    found = [fault for name, value in args.items() if (fault := _fault(name, value))]
    return found or list(_combined_faults(args))


def _fault(name: str, value: object) -> Fault | None:
    kind = known_args().get(name)
    if kind is None:
        hint = did_you_mean(name, offered_args())
        return Fault(
            (name,), "vLLM 0.29 has no such argument", hint or "see vLLM's engine arguments"
        )
    owner = _owner(name)
    if owner is not None:
        return Fault((name,), *owner)
    if name in _FIXED:
        wanted, why = _FIXED[name]
        return (
            None if value == wanted else Fault((name,), why, f"write {_yaml(wanted)} or remove it")
        )
    wrong = _type_fault(value, kind) or _bound_fault(name, value, kind.get("bounds", {}))
    return Fault((name,), *wrong) if wrong else None


def _owner(name: str) -> tuple[str, str] | None:
    if name in _OURS:
        return _OURS[name]
    return next((why for prefix, why in _OUR_PREFIXES.items() if name.startswith(prefix)), None)


def _type_fault(value: object, kind: Mapping[str, Any]) -> tuple[str, str] | None:
    types: list[str] = kind["types"]
    if not _is_one_of(value, types):
        words = " or ".join(_TYPE_WORDS[name] for name in types if name != "null")
        return f"{_yaml(value)} is not {words}", ""
    choices = kind.get("choices")
    if choices and value is not None and value not in choices:
        hint = did_you_mean(str(value), [str(choice) for choice in choices])
        return f"{_yaml(value)} is not a value that vLLM knows", hint
    return None


def _is_one_of(value: object, types: list[str]) -> bool:
    if value is None:
        return "null" in types
    if isinstance(value, bool):
        return "bool" in types
    if isinstance(value, int):
        return "int" in types or "float" in types
    named = {float: "float", str: "str", list: "list", dict: "dict"}
    return named.get(type(value)) in types


def _bound_fault(name: str, value: object, bounds: Mapping[str, float]) -> tuple[str, str] | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    if name == "max_model_len" and value < 1 and value != -1:
        return f"{value} is no length", "write a number of tokens, or -1 for as many as fit"
    inside = {
        "gt": lambda limit: value > limit,
        "ge": lambda limit: value >= limit,
        "lt": lambda limit: value < limit,
        "le": lambda limit: value <= limit,
    }
    if all(inside[bound](limit) for bound, limit in bounds.items()):
        return None
    words = " and ".join(f"{_BOUND_WORDS[bound]} {limit:g}" for bound, limit in bounds.items())
    return f"{value} is out of range", f"it must be {words}"


def _combined_faults(args: Mapping[str, Any]) -> Iterator[Fault]:
    """Pairs of arguments that vLLM refuses together when its engine starts."""
    batched, seqs = args.get("max_num_batched_tokens"), args.get("max_num_seqs")
    if batched is not None and seqs is not None and batched < seqs:
        message = (
            f"{batched} is below max_num_seqs, {seqs}: each running request takes a token a step"
        )
        yield Fault(("max_num_batched_tokens",), message, f"write at least {seqs}")
    length = args.get("max_model_len")
    if batched is None or length is None or args.get("enable_chunked_prefill", True):
        return
    if batched < length:
        message = f"{batched} is below max_model_len, {length}, and chunked prefill is off"
        yield Fault(("max_num_batched_tokens",), message, "turn enable_chunked_prefill on")


def _yaml(value: object) -> str:
    return json.dumps(value, default=str)
