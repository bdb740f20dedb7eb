"""A workload with some of its values replaced, as the options of a command ask for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from forebay.spec.files import Problem, SpecError, as_fault, format_rate, format_seconds
from forebay.spec.workload.workload_laws import StageSpec
from forebay.spec.workload.workload_spec import WorkloadSpec

_DEFAULT_S = 60.0


def changed(
    spec: WorkloadSpec,
    *,
    rates: Sequence[float] = (),
    ramp: tuple[float, float] | None = None,
    clients: int | None = None,
    seconds: float | None = None,
    prompt_tokens: int | None = None,
    output_tokens: int | None = None,
    slo_ttft: float | None = None,
    slo_tpot: float | None = None,
    seed: int | None = None,
) -> WorkloadSpec:
    """The workload with what is not None or empty replaced.

    Args:
        spec: the workload.
        rates: stages of constant rates, requests/s, each `seconds` long.
        ramp: a straight ramp between two rates, requests/s, `seconds` long.
        clients: a closed loop of so many clients.
        seconds: of each stage; alone, it makes the workload so long, every stage in proportion.
        prompt_tokens: fixed and whole, of every kind: shared prefixes are left out.
        output_tokens: fixed, of every kind.
        slo_ttft: seconds.
        slo_tpot: seconds.
        seed: of times and lengths.

    Raises:
        SpecError: the result cannot be.
    """
    data = spec.plain()
    when = _when(rates, ramp, clients, seconds)
    lengths = {"prompt": prompt_tokens, "output": output_tokens}
    if spec.trace is not None and (when or any(lengths.values())):
        what = "a trace has rates and lengths of its own"
        raise SpecError([Problem("options", 0, 0, "trace", what, "use speed, thin or copies")])
    if when:
        replaced = ("stages", "closed", "arrivals") if "closed" in when else ("stages", "closed")
        data = {key: value for key, value in data.items() if key not in replaced} | when
    elif seconds is not None:
        _stretch(data, spec, seconds)
    data["requests"] = [_with_lengths(kind, lengths) for kind in data.get("requests", [])]
    limits = {"ttft": slo_ttft, "tpot": slo_tpot}
    asked = {key: format_seconds(limit) for key, limit in limits.items() if limit is not None}
    data["slo"] = data.get("slo", {}) | asked
    if seed is not None:
        data["seed"] = seed
    return _validated(data)


def fixed_workload(
    name: str,
    prompt_tokens: int,
    output_tokens: int,
    *,
    stages: Sequence[tuple[float, float]] = (),
    clients: int | None = None,
    seconds: float = _DEFAULT_S,
    **more: Any,
) -> WorkloadSpec:
    """Requests of one length: Poisson arrivals in stages of (requests/s, seconds), or clients.

    Args:
        name: of the workload.
        prompt_tokens: of every request.
        output_tokens: of every answer.
        stages: an open loop.
        clients: a closed loop, of `seconds`.
        seconds: see `clients`.
        more: further keys of the workload file.

    Raises:
        SpecError: it cannot be.
    """
    kind = {"prompt": prompt_tokens, "output": output_tokens}
    when: dict[str, Any] = {
        "stages": [{"hold": format_rate(rate), "for": format_seconds(s)} for rate, s in stages]
    }
    if clients is not None:
        when = {"closed": {"clients": clients, "for": format_seconds(seconds)}}
    return _validated({"name": name, "requests": [kind], **when, **more})


def _when(
    rates: Sequence[float],
    ramp: tuple[float, float] | None,
    clients: int | None,
    seconds: float | None,
) -> dict[str, Any]:
    length = format_seconds(_DEFAULT_S if seconds is None else seconds)
    if clients is not None:
        return {"closed": {"clients": clients, "for": length}}
    if ramp is not None:
        return {"stages": [{"ramp": [format_rate(rate) for rate in ramp], "for": length}]}
    return (
        {"stages": [{"hold": format_rate(rate), "for": length} for rate in rates]} if rates else {}
    )


def _with_lengths(kind: dict[str, Any], lengths: dict[str, int | None]) -> dict[str, Any]:
    """The kind with fixed lengths: pairs of lengths give way, and prefixes to a fixed prompt."""
    asked = {key: tokens for key, tokens in lengths.items() if tokens is not None}
    gone = {"joint", "sharegpt"} if asked else set()
    if "prompt" in asked:
        gone.add("prefixes")
    return {key: value for key, value in kind.items() if key not in gone} | asked


def _stretch(data: dict[str, Any], spec: WorkloadSpec, seconds: float) -> None:
    if spec.closed is not None:
        data["closed"]["for"] = format_seconds(seconds)
    elif spec.trace is not None:
        data["trace"]["for"] = format_seconds(seconds * spec.trace.speed)
    else:
        factor = seconds / sum(stage.duration for stage in spec.stages)
        for stage, content in zip(spec.stages, data["stages"], strict=True):
            content.update(_stretched(stage, content, factor))


def _stretched(stage: StageSpec, content: dict[str, Any], factor: float) -> dict[str, Any]:
    """The stage's times, those inside it included, `factor` times as long."""
    length = stage.duration * factor
    times: dict[str, Any] = {"for": format_seconds(length)}
    if stage.sine is not None:
        period = format_seconds(stage.sine.period * factor)
        times["sine"] = content["sine"] | {"period": period}
    if stage.spike is not None:
        start = stage.spike.start * factor
        peak = min(stage.spike.length * factor, length - start)  # rounded, it still lies inside
        edges = {"start": format_seconds(start), "length": format_seconds(peak)}
        times["spike"] = content["spike"] | edges
    if stage.series is not None:
        pairs = zip(stage.series, content["series"], strict=True)
        times["series"] = [old | {"at": format_seconds(point.at * factor)} for point, old in pairs]
    return times


def _validated(data: dict[str, Any]) -> WorkloadSpec:
    try:
        return WorkloadSpec.model_validate(data, context={"folder": Path()})
    except ValidationError as error:
        faults = [as_fault(one, WorkloadSpec) for one in error.errors(include_url=False)]
        raise SpecError(
            Problem("options", 0, 0, ".".join(fault.loc), fault.message, fault.hint)
            for fault in faults
        ) from None
