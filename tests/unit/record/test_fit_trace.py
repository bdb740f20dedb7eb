"""From a trace's file to a workload file, and how well it says that it fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from forebay.record import (
    WouldOverwriteError,
    cells,
    fit_trace,
    read_rows,
    verdict_lines,
    workload_lines,
)
from forebay.record.fitted_file import fitted_file
from forebay.spec.workload import load_workload
from forebay.workload import (
    Fixed,
    Gamma,
    Hold,
    Independent,
    Joint,
    Kind,
    Lognormal,
    OpenLoop,
    Poisson,
    PrefixPool,
    RateCurve,
    Replay,
    Row,
    Uniform,
    facts,
)
from forebay.workload.fit_quality import session_rows

TRACES = Path(__file__).parents[3].parent / "shared" / "traces"

CHAT = Kind(
    name="chat",
    share=2.0,
    lengths=Independent(Lognormal(400, 2000, most=8000), Uniform(5, 300)),
    prefixes=PrefixPool("chat", 5, Fixed(512), zipf=0.7),
    class_name="interactive",
    tenants=(("t-1", 1.0), ("t-2", 4.0)),
)
CODE = Kind(name="code", lengths=Joint(tuple((50 + 7 * k, 1 + k) for k in range(300))))


def recorded(*kinds: Kind, seed: int = 3) -> list[Row]:
    curve = RateCurve((Hold(5, 400), Hold(15, 200)))
    loop = OpenLoop(curve=curve, law=Gamma(1.6), kinds=kinds, seed=seed)
    rows = session_rows(loop.schedule())
    return [replace(row, at_s=row.at_s - rows[0].at_s) for row in rows]


def test_what_is_written_loads_and_is_what_was_judged(tmp_path: Path) -> None:
    output = tmp_path / "traffic.yaml"
    fitted = fit_trace(recorded(CHAT, CODE), output, "from a test", seed=4)
    spec = load_workload(str(output))
    assert (spec.name, spec.source, spec.seed) == ("traffic", "from a test", 4)
    assert spec.make() == fitted.workload
    assert fitted.quality.verdict == "fits", fitted.quality.figures
    assert fitted.files[-1] == output
    assert [path.name for path in fitted.files[:-1]] == ["traffic-without-class-lengths.csv"]
    chat, code = spec.requests
    assert (chat.class_name, code.class_name) == ("interactive", "")
    assert chat.prefixes is not None
    assert (chat.prefixes.count, chat.prefixes.tokens.fixed) == (5, 512)
    assert {tenant.name for tenant in chat.tenants} == {"t-1", "t-2"}


def test_a_file_names_its_tables_as_they_lie_beside_it(tmp_path: Path) -> None:
    output = tmp_path / "a.yaml"
    fit_trace(recorded(CODE), output, "")
    (kind,) = yaml.safe_load(output.read_text("utf-8"))["requests"]
    assert kind["joint"] == "a-requests-lengths.csv"
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in tmp_path.glob("a*"):
        path.rename(moved / path.name)
    assert load_workload(str(moved / "a.yaml")).make()


def test_a_few_pairs_stand_in_the_file_itself(tmp_path: Path) -> None:
    classes = ["often"] * 39 + ["seldom"]
    rows = [
        Row(at_s=k, prompt_tokens=100 + k, output_tokens=10 + k, class_name=classes[k % 40])
        for k in range(400)
    ]
    fitted = fit_trace(rows, tmp_path / "a.yaml", "")
    assert [path.name for path in fitted.files] == ["a-often-lengths.csv", "a.yaml"]
    _, seldom = yaml.safe_load((tmp_path / "a.yaml").read_text("utf-8"))["requests"]
    assert seldom["joint"] == [[100 + k, 10 + k] for k in range(39, 400, 40)]


def test_one_odd_request_of_millions_is_a_kind_that_loads(tmp_path: Path) -> None:
    usual = Kind(name="usual", lengths=Independent(Fixed(9), Fixed(2)))
    kinds = (usual, replace(usual, name="odd", share=4e-7))
    loop = OpenLoop(curve=RateCurve((Hold(5, 400),)), law=Poisson(), kinds=kinds, seed=1)
    fitted_file(loop, tmp_path / "w.yaml", "from a test").write()
    assert [kind.share for kind in load_workload(str(tmp_path / "w.yaml")).requests] == [1.0, 4e-7]


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    rows, output = recorded(CODE), tmp_path / "a.yaml"
    table = tmp_path / "a-requests-lengths.csv"
    table.write_text("mine")
    with pytest.raises(WouldOverwriteError, match=r"lengths\.csv exists"):
        fit_trace(rows, output, "")
    assert (table.read_text(), output.exists()) == ("mine", False)
    fit_trace(rows, output, "", overwrite=True)
    assert table.read_text() != "mine"


def test_a_name_of_a_built_in_workload_is_a_file_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fitted = fit_trace(recorded(CODE), Path("chat"), "")
    assert [kind.name for kind in fitted.workload.kinds] == ["requests"]


def test_whole_seconds_are_told(tmp_path: Path) -> None:
    rows = [replace(row, at_s=float(int(row.at_s))) for row in recorded(CODE)]
    fitted = fit_trace(rows, tmp_path / "a.yaml", "")
    assert fitted.step_s == 1.0
    assert next(workload_lines(fitted)).startswith("times are known to 1 s only")
    assert fitted.workload.law.cv < 2


def test_the_words_name_every_figure_and_the_way_out(tmp_path: Path) -> None:
    fitted = fit_trace(recorded(CHAT, CODE), tmp_path / "a.yaml", "")
    text = "\n".join(workload_lines(fitted))
    assert "stages between" in text
    assert "behind 5 prefixes of 512 tokens" in text
    assert all(len(cells(figure)) == 6 for figure in fitted.quality.figures)
    worst = replace(fitted.quality.figures[0], verdict="does not fit", advice="replay the trace")
    quality = replace(fitted.quality, figures=(worst,))
    said = list(verdict_lines(quality, "t.jsonl", "forebay"))
    assert said[0] == "gaps, rate removed (does not fit): replay the trace"
    assert said[-1] == "  trace: {file: t.jsonl, format: forebay}"


def needs(name: str) -> Path:
    path = TRACES / name
    if not path.is_file():
        pytest.skip(f"{name} is not here")
    return path


def test_the_azure_conversation_trace_fits(tmp_path: Path) -> None:
    rows = read_rows(str(needs("azure_conv.csv")), "azure")
    fitted = fit_trace(rows, tmp_path / "azure.yaml", "")
    assert fitted.quality.verdict == "fits", fitted.quality.figures
    assert fitted.workload.law == Poisson()
    assert 3 <= len(fitted.workload.curve.pieces) <= 12
    assert fitted.quality.recorded == facts(rows)
    assert abs(fitted.quality.fitted.requests - len(rows)) < 4 * np.sqrt(len(rows))


def test_the_mooncake_conversation_trace_does_not_and_says_why(tmp_path: Path) -> None:
    path = needs("moon_conv.jsonl.gz")
    fitted = fit_trace(read_rows(str(path), "mooncake"), tmp_path / "moon.yaml", "")
    bad = [figure for figure in fitted.quality.figures if figure.verdict == "does not fit"]
    assert [figure.name for figure in bad] == ["reusable prompt tokens"]
    assert (bad[0].recorded or 0) > 0.3
    assert fitted.step_s == pytest.approx(3.0, abs=0.01)
    again = tmp_path / "replay.yaml"
    lines = list(verdict_lines(fitted.quality, str(path), "mooncake"))
    again.write_text(f"name: replay\n{lines[-1].strip()}\n")
    replayed = load_workload(str(again)).make()
    assert isinstance(replayed, Replay)
    assert len(replayed.schedule()) == fitted.quality.recorded.requests
