"""What a run leaves behind is what was measured, and can be read again."""

from __future__ import annotations

import json
from array import array
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.load.plan import Endpoint
from forebay.load.results import RunFolderError, judged, read_run, stage_rows, without_credentials
from forebay.load.results.folder import summary_of, write_run
from forebay.load.run import LoadRun, RecordsError, read_records, write_records
from forebay.load.run.table import merged
from forebay.measure import OUTCOMES, ClientFacts, RequestRecord, ServerSample
from forebay.measure.validity import judge
from forebay.spec.workload import fixed_workload
from forebay.spec.workload.workload_loading import load_workload_text

seconds = st.floats(0, 1e6)
records = st.builds(
    RequestRecord,
    index=st.integers(0, 10**6),
    intended_s=seconds,
    sent_s=seconds,
    ended_s=seconds,
    status=st.sampled_from([0, 200, 429, 500]),
    outcome=st.sampled_from(OUTCOMES),
    first_token_s=st.none() | seconds,
    last_token_s=st.none() | seconds,
    tokens_out=st.integers(0, 10**5),
    class_name=st.text(max_size=5),
    reason=st.text(max_size=20),
    retry_after_s=st.none() | seconds,
    token_times=st.none() | st.lists(seconds, max_size=5).map(lambda v: array("d", v)),
    cached_tokens=st.none() | st.integers(0, 10**5),
    session=st.integers(0, 10**6),
    turn=st.integers(0, 9),
)


@settings(deadline=None)
@given(st.lists(records, max_size=20))
def test_records_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, many: list[RequestRecord]
) -> None:
    file = tmp_path_factory.mktemp("records") / "r.parquet"
    write_records(many, file)
    assert read_records(file) == many


def test_any_tool_can_read_the_table(tmp_path: Path) -> None:
    write_records([record(0)], tmp_path / "r.parquet")
    table = pq.read_table(tmp_path / "r.parquet")
    assert table.column("outcome").to_pylist() == ["ok"]
    assert table.column("token_times").to_pylist() == [[1.2, 1.3]]


def test_what_is_no_table_of_requests_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.parquet").write_text("no")
    with pytest.raises(RecordsError, match="not a table"):
        read_records(tmp_path / "r.parquet")


@given(st.lists(records, max_size=30), st.integers(1, 4))
def test_merging_loses_nothing_and_numbers_by_time(many: list[RequestRecord], parts: int) -> None:
    found = merged(many[part::parts] for part in range(parts))
    assert [one.index for one in found] == list(range(len(many)))
    assert sorted(one.intended_s for one in many) == [one.intended_s for one in found]


def record(number: int) -> RequestRecord:
    return RequestRecord(
        index=number, intended_s=1.0 + number, sent_s=1.001 + number, first_byte_s=1.1 + number,
        first_token_s=1.2 + number, last_token_s=1.3 + number, ended_s=1.31 + number, status=200,
        outcome="ok", tokens_out=2, token_times=array("d", [1.2 + number, 1.3 + number]),
        kind="requests", session=number,
    )  # fmt: skip


def a_run() -> LoadRun:
    client = ClientFacts(lag_p50_s=0.001, lag_p99_s=0.001, lag_max_s=0.001, planned=2, begun=2)
    return LoadRun(
        records=[record(0), record(1)],
        client=client,
        validity=judge(client),
        started_at=1_700_000_000.0,
        duration_s=4.0,
        workload=fixed_workload("w", 9, 2, stages=[(1.0, 2.0), (2.0, 2.0)]),
        salt="salt",
    )


ENDPOINT = Endpoint(url="https://user:secret@host:1/base", model="m")


def test_a_folder_holds_the_run(tmp_path: Path) -> None:
    run = a_run()
    write_run(tmp_path / "new" / "run", run, summary_of(run, ENDPOINT))
    found = read_run(tmp_path / "new" / "run")
    assert found.records == run.records
    assert found.summary["schema"] == 1
    assert found.summary["valid"] is True
    assert found.summary["overall"]["offered"] == 2
    assert [stage["offered"] for stage in found.summary["stages"]] == [1, 1]
    assert set(found.summary["kinds"]) == {"requests"}


def test_no_credentials_are_written(tmp_path: Path) -> None:
    run = a_run()
    write_run(tmp_path, run, summary_of(run, ENDPOINT))
    assert "secret" not in (tmp_path / "summary.json").read_text()
    assert without_credentials("http://h:1") == "http://h:1"


def test_the_fingerprint_tells_workloads_apart() -> None:
    run = a_run()
    other = LoadRun(
        records=run.records, client=run.client, validity=run.validity, started_at=0.0,
        duration_s=4.0, workload=fixed_workload("w", 10, 2, stages=[(1.0, 4.0)]), salt="salt",
    )  # fmt: skip
    prints = [summary_of(one, ENDPOINT)["fingerprint"] for one in (run, run, other)]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "has no summary.json"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        (json.dumps({"schema": 99}), "schema 99"),
        (json.dumps({"schema": 1}), "has no requests.parquet"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    with pytest.raises(RunFolderError, match=said):
        read_run(tmp_path)


def test_a_closed_loop_is_told_the_tokens_of_answers_that_it_left_unfinished() -> None:
    loop = fixed_workload("w", 9, 2, clients=1, seconds=2.25)
    run = replace(a_run(), workload=loop, duration_s=2.25)  # the second has one token by then
    assert ([one.index for one in run.counted], [one.index for one in run.tail]) == ([0], [1])
    (stage,) = stage_rows(run)
    assert stage["offered"] == 1
    assert stage["tokens_per_s"] == pytest.approx(3 / 2.25)
    assert run.summary.tokens_per_s == pytest.approx(3 / 2.25)


def test_the_last_requests_of_a_trace_belong_to_its_stage(tmp_path: Path) -> None:
    rows = [f"2024-01-01 00:00:0{s}.0,5,2" for s in (0, 3, 6, 6)]
    (tmp_path / "t.csv").write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    text = "name: w\ntrace: {file: t.csv, format: azure}\n"
    workload = load_workload_text(text, "w.yaml", tmp_path)
    made = [
        replace(record(number), intended_s=at, sent_s=at)
        for number, at in enumerate((0.0, 3.0, 6.0, 6.0))
    ]
    run = replace(a_run(), workload=workload, records=made, duration_s=workload.make().seconds)
    assert run.duration_s == 6.0
    assert [stage["offered"] for stage in stage_rows(run)] == [4]


def test_a_folder_used_again_keeps_nothing_of_the_run_before(tmp_path: Path) -> None:
    decision = {"at": 0.0, "target": 1, "ready": 1}
    whole = replace(judged(a_run(), ENDPOINT, [ServerSample(t=1.0)]), scaling=[decision])
    whole.write(tmp_path)
    (tmp_path / "scaling-replay.html").write_text("of that run")
    (tmp_path / "notes.txt").write_text("the user's own")
    assert {"server.parquet", "scaling.jsonl"} <= {file.name for file in tmp_path.iterdir()}
    judged(a_run(), ENDPOINT, []).write(tmp_path)
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {"requests.parquet", "summary.json", "workload.yaml", "report.html", "notes.txt"}
