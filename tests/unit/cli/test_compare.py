from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from forebay.cli.main import app
from forebay.load.plan import Endpoint
from forebay.load.results.folder import summary_of, write_run
from forebay.load.run import LoadRun
from forebay.measure import ClientFacts, RequestRecord
from forebay.measure.validity import judge
from forebay.spec.workload import fixed_workload

ENDPOINT = Endpoint(url="http://host:1", model="m")
SECONDS = 20.0


def records(seed: int, scale: float, fails: float) -> list[RequestRecord]:
    """About 400 requests with a TTFT around 100 ms x `scale`."""
    rng = np.random.default_rng(seed)
    made = []
    for index, sent in enumerate(np.sort(rng.uniform(0, SECONDS, 400)).tolist()):
        first = None if rng.random() < fails else sent + scale * rng.lognormal(-2.3, 0.3)
        last = None if first is None else first + scale * 0.5
        made.append(
            RequestRecord(
                index=index, intended_s=sent, sent_s=sent + 0.001, first_token_s=first,
                last_token_s=last, ended_s=sent + 1.0 if last is None else last, tokens_out=11,
                status=200 if first else 0, outcome="ok" if first else "timeout",
            )
        )  # fmt: skip
    return made


def a_run(
    folder: Path, seed: int, *, scale: float = 1.0, fails: float = 0.0, lag_s: float = 0.001,
    rate: float = 20.0, slo: str = "1s",
) -> Path:  # fmt: skip
    client = ClientFacts(lag_p50_s=lag_s, lag_p99_s=lag_s, lag_max_s=lag_s, planned=400, begun=400)
    workload = fixed_workload("short", 9, 11, stages=[(rate, SECONDS)], slo={"ttft": slo})
    run = LoadRun(
        records=records(seed, scale, fails), client=client, validity=judge(client),
        started_at=1_700_000_000.0, duration_s=SECONDS, workload=workload, salt="s",
    )  # fmt: skip
    write_run(folder, run, summary_of(run, ENDPOINT))
    return folder


def runs(folder: Path, seeds: Sequence[int], scale: float = 1.0, fails: float = 0.0) -> Path:
    for seed in seeds:
        a_run(folder / f"run-{seed:02}", seed, scale=scale, fails=fails)
    return folder


def compare(*args: object) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, args)])


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs(tmp_path_factory.mktemp("before"), range(5))


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs(tmp_path_factory.mktemp("after"), range(5, 10))


@pytest.fixture(scope="module")
def slower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs(tmp_path_factory.mktemp("slower"), range(5, 10), scale=1.5)


def rows(result: Result) -> dict[str, list[str]]:
    """The table's rows by metric."""
    lines = (line.split("│")[1:-1] for line in result.stdout.splitlines() if "│" in line)
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_runs_of_the_same_service_are_not_worse(before: Path, after: Path) -> None:
    result = compare(before, after)
    assert result.exit_code == 0
    assert "5 runs A, 5 runs B" in result.stdout
    assert rows(result)["p50 TTFT"][-1] == "same"
    assert "no metric is shown to be worse" in result.stdout
    assert "WARNING" not in result.stdout


def test_a_slower_service_is_worse(before: Path, slower: Path) -> None:
    result = compare(before, slower)
    assert result.exit_code == 1
    a, b, change, interval, verdict = rows(result)["p50 TTFT"]
    assert (a.split()[1], b.split()[1], verdict) == ("ms", "ms", "worse")
    assert 40 < float(change.split()[0]) < 60
    assert " to " in interval
    assert "worse: p50 TTFT, p95 TTFT" in result.stdout


def test_the_faster_way_round_it_is_better(before: Path, slower: Path) -> None:
    result = compare(slower, before)
    assert result.exit_code == 0
    assert rows(result)["p50 TTFT"][-1] == "better"


def test_json_holds_what_the_table_shows(before: Path, slower: Path) -> None:
    result = compare(before, slower, "--json", "--paired")
    assert result.exit_code == 1
    content = json.loads(result.stdout)
    assert content["runs"] == {"a": 5, "b": 5, "paired": True}
    p50 = next(one for one in content["metrics"] if one["metric"] == "ttft_p50")
    assert (p50["unit"], p50["change_is"], p50["verdict"]) == ("s", "ratio", "worse")
    assert p50["interval"][0] < p50["change"] == pytest.approx(p50["b"] / p50["a"])
    assert p50["a_interval"][0] < p50["a"] < p50["a_interval"][1]


def test_a_margin_makes_a_change_none(before: Path, slower: Path) -> None:
    wide = compare(before, slower, "--margin", "p50 TTFT=70%")
    assert rows(wide)["p50 TTFT"][-1] == "same"
    assert rows(wide)["p95 TTFT"][-1] == "worse"
    every = compare(before, slower, "--margin", "90%")
    assert every.exit_code == 0


def test_a_gate_decides_instead_of_the_verdicts(tmp_path: Path, before: Path, slower: Path) -> None:
    gate = tmp_path / "gate.txt"
    gate.write_text("p50 TTFT not worse than 80 %\nfailures not above 1 %\n")
    passed = compare(before, slower, "--gate", gate)
    assert passed.exit_code == 0
    assert "pass       p50 TTFT not worse than 80 %: +" in passed.stdout
    gate.write_text("p50 TTFT not worse than 10 %\nfailures not above 1 %\n")
    failed = compare(before, slower, "--gate", gate, "--json")
    assert failed.exit_code == 1
    assert [(one["line"], one["status"]) for one in json.loads(failed.stdout)["gate"]] == [
        (1, "fail"),
        (2, "pass"),
    ]


def test_an_undecided_rule_fails_a_strict_gate_only(
    tmp_path: Path, before: Path, slower: Path
) -> None:
    gate = tmp_path / "gate.txt"
    gate.write_text("p99 TTFT not worse than 50 %\n")  # which is what it is
    assert "undecided" in compare(before, slower, "--gate", gate).stdout.splitlines()[-1]
    assert compare(before, slower, "--gate", gate).exit_code == 0
    assert compare(before, slower, "--gate", gate, "--strict").exit_code == 1


def test_failures_fail_the_gate(tmp_path: Path, before: Path) -> None:
    gate, failing = tmp_path / "gate.txt", runs(tmp_path / "b", range(5, 10), fails=0.05)
    gate.write_text("failures not above 1 %\n")
    result = compare(before, failing, "--gate", gate)
    assert result.exit_code == 1
    assert rows(result)["p99 adjusted TTFT"][1:3] == ["∞", "∞"]


def test_runs_may_be_given_one_by_one(before: Path, slower: Path) -> None:
    few = ",".join(str(before / f"run-{seed:02}") for seed in (0, 1, 2))
    result = compare(few, slower)
    assert "3 runs A, 5 runs B" in result.stdout
    assert "Intervals of fewer than 5 runs a side are wide." in result.stdout


def test_single_runs_say_what_they_do_not_know(before: Path, slower: Path) -> None:
    result = compare(before / "run-00", slower / "run-05")
    assert result.exit_code == 1
    assert "not that from run to run" in " ".join(result.stdout.split())
    again = compare(before / "run-00", slower / "run-05")
    assert again.stdout == result.stdout
    assert compare(before / "run-00", slower / "run-05", "--seed", 1).stdout != result.stdout


def test_an_invalid_run_is_refused_unless_told_otherwise(tmp_path: Path, before: Path) -> None:
    late = a_run(tmp_path / "late", 9, lag_s=0.5)
    refused = compare(before, late)
    assert refused.exit_code == 1
    assert f"{late} is INVALID: the client was late" in refused.stderr
    assert refused.stdout == ""
    allowed = compare(before, late, "--allow-invalid")
    assert "WARNING" in allowed.stdout
    assert "p50 TTFT" in rows(allowed)


def test_runs_that_were_not_asked_the_same_are_warned_of(tmp_path: Path, before: Path) -> None:
    other = a_run(tmp_path / "other", 9, rate=30.0, slo="500ms")
    said = " ".join(compare(before, other).stdout.split())
    assert "WARNING: workloads differ: A short (" in said
    assert "WARNING: SLOs differ: A TTFT 1 s" in said
    assert "B TTFT 0.5 s" in said


def test_goodput_is_judged_by_one_slo(tmp_path: Path, before: Path) -> None:
    strict = a_run(tmp_path / "strict", 9, slo="1ms")  # by its own SLO nothing is good
    assert rows(compare(before, strict))["goodput"][-1] != "worse"


def test_the_tail_of_a_closed_loop_does_not_count(tmp_path: Path) -> None:
    client = ClientFacts(lag_p50_s=0.0, lag_p99_s=0.0, lag_max_s=0.0, planned=None, begun=400)
    kept = records(0, 1.0, 0.0)
    tail = [replace(r, ended_s=SECONDS + 50, first_token_s=r.intended_s + 50) for r in kept[-100:]]
    run = LoadRun(
        records=[*kept[:-100], *tail], client=client, validity=judge(client), started_at=1.7e9,
        duration_s=SECONDS, workload=fixed_workload("w", 9, 11, clients=4, seconds=SECONDS),
        salt="s",
    )  # fmt: skip
    write_run(tmp_path, run, summary_of(run, ENDPOINT))
    content = json.loads(compare(tmp_path, tmp_path, "--json").stdout)
    p99 = next(one for one in content["metrics"] if one["metric"] == "ttft_p99")
    assert p99["a"] == pytest.approx(run.summary.ttft_p99)
    assert p99["a"] < 1.0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--margin", "5"), "--margin: '5' is not an amount in %; write 5 %"),
        (("--margin", "p99 TTTF=5%"), "did you mean p99 TTFT?"),
        (("--strict",), "--strict needs a --gate"),
        (("--gate", "nowhere.txt"), "nowhere.txt cannot be read"),
    ],
)
def test_wrong_options_are_the_users_input(
    before: Path, after: Path, args: tuple[str, ...], said: str
) -> None:
    result = compare(before, after, *args)
    assert result.exit_code == 2
    assert said in result.stderr


def test_every_fault_of_a_gate_is_shown(tmp_path: Path, before: Path, after: Path) -> None:
    gate = tmp_path / "gate.txt"
    gate.write_text("nonsense\np99 TTTF not worse than 5 %\n")
    result = compare(before, after, "--gate", gate)
    assert result.exit_code == 2
    first, second = result.stderr.splitlines()
    assert first.startswith(f"forebay: {gate}: line 1: 'nonsense' is not a rule")
    assert second.endswith("line 2: no metric is called 'p99 TTTF'; did you mean p99 TTFT?")


def test_pairs_come_in_equal_numbers(before: Path, after: Path) -> None:
    result = compare(before, after / "run-05", "--paired")
    assert result.exit_code == 2
    assert "equal numbers of runs, not 5 and 1" in result.stderr


def test_what_holds_no_run_is_the_users_input(tmp_path: Path, before: Path) -> None:
    assert "is not a folder" in compare(before, tmp_path / "none").stderr
    empty = compare(before, tmp_path)
    assert empty.exit_code == 2
    assert "no run" in empty.stderr
    (tmp_path / "summary.json").write_text("{")
    broken = compare(before, tmp_path)
    assert broken.exit_code == 2
    assert "cannot be read" in broken.stderr


def test_help_points_up_to_its_text_and_names_each_exit_code() -> None:
    shown = " ".join(CliRunner().invoke(app, ["compare", "--help"]).stdout.split())
    assert "see below" not in shown
    assert shown.index("folder that `forebay load` wrote") < shown.index("see above")
    assert "Exit code 1: a rule of the gate fails" in shown
    assert "2: an option, the gate or a run's folder is wrong" in shown
