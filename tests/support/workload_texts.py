"""Workload files as text or data, for the tests here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from forebay.spec.files import format_rate, format_seconds
from forebay.spec.workload import WorkloadSpec
from forebay.spec.workload.workload_loading import load_workload_text

STAGE = "{hold: 2/s, for: 60s}"
KIND = "{prompt: 10, output: 5}"


def with_stage(stage: str) -> str:
    """A file whose third line is the stage."""
    return f"name: w\nstages:\n  - {stage}\nrequests:\n  - {KIND}\n"


def with_kind(kind: str) -> str:
    """A file whose fifth line is the kind of request."""
    return f"name: w\nstages:\n  - {STAGE}\nrequests:\n  - {kind}\n"


def with_line(line: str) -> str:
    """A file with one more line, its sixth."""
    return with_kind(KIND) + line + "\n"


def loaded(text: str, folder: Path | None = None) -> WorkloadSpec:
    return load_workload_text(text, "w.yaml", folder)


rates = st.floats(0.001, 1e3).map(format_rate)
seconds = st.floats(0.01, 1e3)
tokens = st.integers(1, 5000)
letters = st.characters(exclude_categories=("Cs", "Cc"))  # PyYAML folds U+0085 into a space


def _duration(value: float) -> str:
    return format_seconds(value)


@st.composite
def _lognormals(draw: st.DrawFn) -> dict[str, Any]:
    p50 = draw(st.floats(1, 1000))
    law: dict[str, Any] = {"p50": p50, "p99": p50 * draw(st.floats(1, 9))}
    if draw(st.booleans()):
        law["min"] = draw(st.integers(1, 5))
    if draw(st.booleans()):
        law["max"] = draw(st.integers(10, 9999))
    return {"lognormal": law}


def _histogram(edges: set[int], weight: float) -> dict[str, Any]:
    return {"histogram": {"edges": sorted(edges), "weights": [weight] * (len(edges) - 1)}}


lengths = st.one_of(
    tokens,
    tokens.map(lambda n: {"fixed": n}),
    st.tuples(tokens, tokens).map(lambda pair: {"uniform": sorted(pair)}),
    _lognormals(),
    st.builds(_histogram, st.sets(tokens, min_size=2, max_size=4), st.floats(0.1, 9)),
)
pauses = st.one_of(
    seconds.map(_duration),
    st.builds(
        lambda p50, k: {"p50": _duration(p50), "p99": _duration(k * p50)}, seconds, st.floats(1, 9)
    ),
)


@st.composite
def stages(draw: st.DrawFn) -> dict[str, Any]:
    """Any stage."""
    length = draw(st.floats(1, 1e3))
    way = draw(st.sampled_from(["hold", "ramp", "exponential", "sine", "spike", "series"]))
    value: Any = draw(rates)
    if way in ("ramp", "exponential"):
        value = [draw(rates), draw(rates)]
    elif way == "sine":
        mean = draw(st.floats(0.01, 1e3))
        amplitude = format_rate(mean * draw(st.floats(0, 1)))
        value = {"mean": format_rate(mean), "amplitude": amplitude, "period": _duration(length / 3)}
    elif way == "spike":
        start = length * draw(st.just(0.0) | st.floats(0.01, 0.5))
        value = {"base": draw(rates), "peak": draw(rates), "start": _duration(start),
                 "length": _duration(length * draw(st.floats(0.01, 0.5)))}  # fmt: skip
    elif way == "series":
        places = sorted({0.0, *draw(st.lists(st.floats(0.01, 0.99), max_size=3))})
        value = [{"at": _duration(length * place), "rate": draw(rates)} for place in places]
    return {way: value, "for": _duration(length)}


def kinds(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Any kind of request of this name, its lengths by two laws or by pairs."""
    more = {
        "share": st.floats(0.1, 9),
        "prefixes": st.fixed_dictionaries(
            {"count": st.integers(1, 9), "tokens": lengths}, optional={"zipf": st.floats(0, 2)}
        ),
        "conversation": st.fixed_dictionaries({"turns": lengths, "think": pauses}),
        "cancel": st.fixed_dictionaries({"share": st.floats(0, 1), "after": pauses}),
        "class": st.sampled_from(["interactive", "batch"]),
        "tenants": st.just([{"name": "x", "weight": 2.5}, {"name": "y", "api_key_env": "KEY"}]),
    }
    pairs = st.lists(st.tuples(tokens, tokens).map(list), min_size=1, max_size=3)
    return st.one_of(
        st.fixed_dictionaries(
            {"name": st.just(name), "prompt": lengths, "output": lengths}, optional=more
        ),
        st.fixed_dictionaries({"name": st.just(name), "joint": pairs}, optional=more),
    )


@st.composite
def workloads(draw: st.DrawFn) -> dict[str, Any]:
    """The data of any workload file without files beside it."""
    data = draw(
        st.fixed_dictionaries(
            {"name": st.text(letters, min_size=1, max_size=9)},
            optional={
                "description": st.text(letters, max_size=9),
                "source": st.text(letters, max_size=9),
                "slo": st.fixed_dictionaries(
                    {}, optional={"ttft": seconds.map(_duration), "tpot": seconds.map(_duration)}
                ),
                "temperature": st.floats(0, 2),
                "seed": st.integers(0, 2**40),
            },
        )
    )
    names = draw(
        st.lists(st.text(letters, min_size=1, max_size=5), min_size=1, max_size=3, unique=True)
    )
    data["requests"] = [draw(kinds(name)) for name in names]
    if draw(st.booleans()):
        data["closed"] = {"clients": draw(st.integers(1, 99)), "for": _duration(draw(seconds))}
        return data
    data["stages"] = draw(st.lists(stages(), min_size=1, max_size=3))
    data["arrivals"] = draw(
        st.sampled_from(["poisson", "constant"])
        | st.floats(0.1, 9).map(lambda cv: {"gamma": {"cv": cv}})
    )
    return data
