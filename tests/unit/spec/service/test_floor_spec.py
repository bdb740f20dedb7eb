"""`scaling.schedule`: floors by the clock, as people write them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from forebay.policies.scaling import FloorWindow, Recurrence
from forebay.serving.app.scaling_settings import autoscaling_config
from forebay.serving.scaling.scaling_policy import read_floor
from forebay.spec.files import SpecError
from forebay.spec.service import load_service, load_service_text, summarize
from forebay.spec.service.doubts import doubts

SERVICE = "name: chat\nmodel: {id: m, engine: emulated, source: h100-8b}\n"


def service(folder: Path, schedule: str) -> Path:
    file = folder / "service.yaml"
    file.write_text(f"{SERVICE}scaling: {{min: 1, max: 30, schedule: [{schedule}]}}\n")
    return file


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        (
            "{min: 24, from: 2026-12-01T08:30Z, until: 2026-12-01T12:00+01:00}",
            FloorWindow(
                datetime(2026, 12, 1, 8, 30, tzinfo=UTC).timestamp(),
                datetime(2026, 12, 1, 11, tzinfo=UTC).timestamp(),
                24,
            ),
        ),
        (
            "{min: 3, from: 2026-12-01T08:30:00Z, until: '2026-12-01T09:00Z'}",
            FloorWindow(
                datetime(2026, 12, 1, 8, 30, tzinfo=UTC).timestamp(),
                datetime(2026, 12, 1, 9, tzinfo=UTC).timestamp(),
                3,
            ),
        ),
    ],
)
def test_a_window_is_read_with_its_offsets(tmp_path: Path, text: str, entry: FloorWindow) -> None:
    (floor,) = load_service(service(tmp_path, text)).scaling.schedule
    assert floor.entry() == entry


def test_a_recurrence_keeps_its_zone_on_the_way_to_the_controller(tmp_path: Path) -> None:
    text = "{min: 6, cron: 30 8 * * mon-fri, for: 2h, zone: Europe/Berlin}"
    settings = autoscaling_config(load_service(service(tmp_path, text)))["policy"]
    (sent,) = settings.policy_kwargs["settings"]["schedule"]
    entry = read_floor(sent)
    assert isinstance(entry, Recurrence)
    assert (entry.cron, str(entry.zone), entry.seconds, entry.replicas) == (
        "30 8 * * mon-fri",
        "Europe/Berlin",
        7200.0,
        6,
    )


def test_check_says_when_there_will_be_more(tmp_path: Path) -> None:
    schedule = (
        "{min: 8, from: 2026-12-01T08:30+01:00, until: 2026-12-01T12:00+01:00},"
        "{min: 6, cron: 30 8 * * mon-fri, for: 2h, zone: Europe/Berlin}"
    )
    said = summarize(load_service(service(tmp_path, schedule)))["scaling"]
    assert said == (
        "1 to 30 replicas; 8 from 2026-12-01 08:30+0100 until 2026-12-01 12:00+0100; "
        "6 for 2h at 30 8 * * mon-fri Europe/Berlin"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{min: 2, from: 2026-12-01T08:30, until: 2026-12-01T09:30Z}", "has no offset"),
        ("{min: 2, from: 2026-12-01, until: 2026-12-02}", "2026-12-01 has no time of day; write a"),
        ("{min: 2, from: 20261201, until: 2026-12-01T09:30Z}", "20261201 is not a time"),
        ("{min: 2, from: soon, until: 2026-12-01T09:30Z}", "'soon' is not a time"),
        ("{min: 2, from: 2026-12-01T08:30Z, until: 2026-12-01T08:00Z}", "ends before it begins"),
        ("{min: 2, from: 2026-12-01T08:30Z}", "does not say when"),
        ("{min: 2, cron: 30 8 * *, for: 1h}", "is not a cron expression"),
        ("{min: 2, cron: 30 8 * * *, for: 1h, zone: Mars}", "'Mars' is not a time zone"),
        ("{min: 2, cron: 30 8 * * *, for: 1h, zone: Europe}", "'Europe' is not a time zone"),
        ("{min: 2, cron: 30 8 * * *, for: 1h, until: 2026-12-01T08:00Z}", "does not say when"),
    ],
)
def test_a_mistake_is_said_at_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_service(service(tmp_path, text))
    assert said in str(caught.value)
    assert "service.yaml:3" in str(caught.value)


def test_a_window_that_is_over_is_doubted_and_a_coming_or_recurring_one_is_not(
    tmp_path: Path,
) -> None:
    schedule = (
        "{min: 8, cron: 30 8 * * 1-5, for: 2h},"
        "{min: 24, from: 2025-12-01T08:30Z, until: 2025-12-01T12:00+01:00},"
        "{min: 24, from: 2026-12-01T08:30Z, until: 2026-12-01T12:00Z}"
    )
    spec = load_service(service(tmp_path, schedule))
    ended = datetime(2025, 12, 1, 11, tzinfo=UTC).timestamp()
    assert not list(doubts(spec, ended - 1.0))
    assert list(doubts(spec, ended)) == [
        "scaling.schedule.1: its window ended at 2025-12-01 12:00+0100, so nothing holds "
        "24 replicas; is the year right?"
    ]


def test_a_floor_that_max_would_cut_off_is_refused_where_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "service.yaml"
    floors = "".join(
        f"    - {{min: {least}, cron: 30 8 * * 1-5, for: 2h}}\n" for least in (8, 9, 12)
    )
    file.write_text(f"{SERVICE}scaling:\n  max: 8\n  schedule:\n{floors}")
    with pytest.raises(SpecError) as caught:
        load_service(file)
    assert str(caught.value).splitlines() == [
        f"{file}:{line}: scaling.schedule.{place}.min: {least} is above scaling.max, 8; "
        f"write at most 8, or scaling.max: {least}"
        for line, place, least in ((7, 1, 9), (8, 2, 12))
    ]


def test_a_floor_is_held_against_the_default_of_max_too(tmp_path: Path) -> None:
    file = tmp_path / "service.yaml"
    file.write_text(f"{SERVICE}scaling: {{schedule: [{{min: 4, cron: 30 8 * * *, for: 1h}}]}}\n")
    with pytest.raises(SpecError, match=r"schedule\.0\.min: 4 is above scaling\.max, 1"):
        load_service(file)


def test_the_plain_form_reads_back(tmp_path: Path) -> None:
    text = "{min: 6, cron: 30 8 * * 1-5, for: 2h}"
    spec = load_service(service(tmp_path, text))
    again = tmp_path / "again.yaml"
    plain: dict[str, Any] = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    again.write_text(yaml.safe_dump(plain))
    assert load_service(again).scaling == spec.scaling


@pytest.mark.parametrize(
    ("server", "doubtful"),
    [("{}", False), ("{ray_address: auto}", True), ("{ray_address: auto, host: 0.0.0.0}", False)],
)
def test_a_cluster_whose_other_nodes_could_not_be_reached_is_doubted(
    server: str, doubtful: bool
) -> None:
    spec = load_service_text(f"name: a\nmodel: {{id: a, source: demo}}\nserver: {server}\n")
    told = [line for line in doubts(spec, 0.0) if line.startswith("server.host: ")]
    assert bool(told) == doubtful
