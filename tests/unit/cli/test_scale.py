"""`forebay scale`, up to where it needs a running service."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from forebay.cli.main import app
from forebay.cli.scale import read_end

NOW = datetime(2026, 12, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("2h", NOW + timedelta(hours=2)),
        ("2026-12-01T12:00+01:00", NOW + timedelta(hours=3)),
        ("2026-12-01T12:00Z", NOW + timedelta(hours=4)),
    ],
)
def test_the_end_is_a_time_or_a_duration(text: str, end: datetime) -> None:
    assert read_end(text, NOW) == end


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5", "neither a time"),
        ("2026-12-01T12:00", "no offset"),
        ("2026-12-01T07:00Z", "past"),
        ("2027-12-01T07:00Z", "more than a month"),
    ],
)
def test_an_end_that_cannot_be_meant_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_end(text, NOW)


def test_a_service_of_fixed_size_is_told_so() -> None:
    said = CliRunner().invoke(app, ["scale", "examples/demo.yaml", "--min", "3"])
    assert said.exit_code == 2
    assert "the size is fixed" in said.output


def test_more_than_max_is_refused() -> None:
    said = CliRunner().invoke(app, ["scale", "examples/scaling.yaml", "--min", "9"])
    assert said.exit_code == 2
    assert "above scaling.max, 8" in said.output
