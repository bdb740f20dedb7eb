"""What Ray is asked for on account of a service file."""

from __future__ import annotations

from pathlib import Path

import pytest

from forebay.spec.service import emulated_cpus, load_service, placement_bundles

EMULATED = """\
name: app
model: {id: demo, engine: emulated, source: demo-cpu}
"""


@pytest.mark.parametrize(
    ("written", "cpus"), [("", 0.01), ("hardware: {cpus_per_replica: 4}\n", 4.0)]
)
def test_an_emulated_replica_takes_a_core_only_where_the_file_says_so(
    tmp_path: Path, written: str, cpus: float
) -> None:
    file = tmp_path / "service.yaml"
    file.write_text(EMULATED + written)
    spec = load_service(file)
    assert emulated_cpus(spec) == cpus
    assert placement_bundles(spec) == [{"CPU": cpus}]
