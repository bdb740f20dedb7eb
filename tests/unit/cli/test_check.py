import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from forebay import __version__
from forebay.cli.main import app
from forebay.spec.service import field_docs

GOOD = "name: chat\nmodel: {id: demo, source: demo}\n"
BAD = "name: chat\nmodel: {id: demo, source: demo}\nslo:\n  ttft_p99: -1s\n  tpto_p99: 1s\n"


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def test_a_good_file_is_summed_up(tmp_path: Path) -> None:
    file = tmp_path / "forebay.yaml"
    file.write_text(GOOD)
    result = run("check", file)
    assert result.exit_code == 0
    assert "forebay.yaml is fine" in result.stdout
    assert "context 16384 tokens" in result.stdout
    assert "1 x (1 CPU) per replica" in result.stdout


def test_a_good_file_as_json(tmp_path: Path) -> None:
    file = tmp_path / "forebay.yaml"
    file.write_text(GOOD)
    content = json.loads(run("check", file, "--json").stdout)
    assert content["ok"] is True
    assert content["spec"]["slo"] == {"ttft_p99": "1s", "tpot_p99": "200ms"}
    assert content["placement_bundles"] == [{"CPU": 1.0}]


def test_a_launch_of_last_year_is_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "forebay.yaml"
    floor = "{min: 2, from: 2020-12-01T08:30Z, until: 2020-12-01T12:00Z}"
    file.write_text(f"{GOOD}scaling: {{max: 4, schedule: [{floor}]}}\n")
    result = run("check", file)
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: scaling.schedule.0: its window ended at 2020-12-01")
    (warning,) = json.loads(run("check", file, "--json").stdout)["warnings"]
    assert result.stderr == f"warning: {warning}\n"


def test_a_bad_file_is_the_users_input(tmp_path: Path) -> None:
    file = tmp_path / "forebay.yaml"
    file.write_text(BAD)
    result = run("check", file)
    assert result.exit_code == 2
    assert result.stdout == ""
    first, second, count = result.stderr.splitlines()
    assert first.startswith(f"{file}:4: slo.ttft_p99: -1s is below zero; write a duration such as")
    assert second == f"{file}:5: slo.tpto_p99: unknown key; did you mean tpot_p99?"
    assert count == "2 problems"


def test_a_bad_file_as_json(tmp_path: Path) -> None:
    file = tmp_path / "forebay.yaml"
    file.write_text(BAD)
    result = run("check", file, "--json")
    assert result.exit_code == 2
    content = json.loads(result.stdout)
    assert content["ok"] is False
    assert [(one["line"], one["field"]) for one in content["problems"]] == [
        (4, "slo.ttft_p99"),
        (5, "slo.tpto_p99"),
    ]


def test_a_missing_file_is_the_users_input(tmp_path: Path) -> None:
    result = run("check", tmp_path / "none.yaml")
    assert result.exit_code == 2
    assert "no such file" in result.stderr


def test_the_file_that_init_writes_passes_check(tmp_path: Path) -> None:
    file = tmp_path / "forebay.yaml"
    assert run("init", file).exit_code == 0
    assert run("check", file).exit_code == 0


def commented_out(file: Path) -> list[int]:
    """Lines of a starter file that hold an example of a setting that is not set."""
    unset = {doc.path[-1] for doc in field_docs() if doc.default is None and doc.example}
    mark = re.compile(rf" *# ({'|'.join(unset)}): \S.*")
    return [at for at, line in enumerate(file.read_text().splitlines()) if mark.fullmatch(line)]


def uncommented(file: Path, which: list[int]) -> None:
    lines = file.read_text().splitlines()
    for at in which:
        lines[at] = lines[at].replace("# ", "", 1)
    file.write_text("\n".join(lines))


def test_every_example_that_init_writes_passes_check_uncommented(tmp_path: Path) -> None:
    """Each alone, and all at once; the tenants file is made first, as its comment says."""
    file = tmp_path / "forebay.yaml"
    run("init", file)
    assert run("keys", "create", "shop", "--file", tmp_path / "tenants.yaml").exit_code == 0
    examples = commented_out(file)
    assert len(examples) == sum(doc.default is None and not doc.required for doc in field_docs())
    plain = file.read_text()
    for which in (*([at] for at in examples), examples):
        file.write_text(plain)
        uncommented(file, which)
        assert file.read_text() != plain
        result = run("check", file)
        assert result.exit_code == 0, result.stderr


def test_init_overwrites_only_when_told_to(tmp_path: Path) -> None:
    file = tmp_path / "forebay.yaml"
    file.write_text("mine")
    refused = run("init", file)
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert file.read_text() == "mine"
    assert run("init", file, "--force").exit_code == 0
    assert file.read_text() != "mine"


def test_init_where_nothing_can_be_written_is_the_environments_fault(tmp_path: Path) -> None:
    result = run("init", tmp_path / "none" / "forebay.yaml")
    assert result.exit_code == 3
    assert "cannot be written: No such file or directory" in result.stderr


@pytest.mark.parametrize("args", [(), ("check",), ("init",)])
def test_help_shows_an_example(args: tuple[str, ...]) -> None:
    result = run(*args, "--help")
    assert result.exit_code == 0
    assert "Example: forebay" in result.stdout


def test_the_version_is_shown() -> None:
    assert run("--version").stdout == f"forebay {__version__}\n"
