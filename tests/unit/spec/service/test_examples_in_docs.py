"""The service files that README and docs show, as a reader would copy them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from forebay.spec.service import ServiceSpec, load_service_text

ROOT = Path(__file__).parents[4]
PAGES = (ROOT / "README.md", ROOT / "docs/scaling.md")
SERVICE = {"name": "chat", "model": {"id": "m", "engine": "emulated", "source": "h100-8b"}}


def shown(page: Path) -> Iterator[ServiceSpec]:
    """Each service file of a page, and each part of one as part of a small service."""
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
        part = yaml.safe_load(block)
        if set(part) <= set(ServiceSpec.model_fields):
            yield load_service_text(yaml.safe_dump({**SERVICE, **part}))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_service_files_of_a_page_are_fine_and_bear_its_commands(page: Path) -> None:
    services = list(shown(page))
    floors = re.findall(r"forebay scale \S+ --min (\d+)", page.read_text())
    assert services
    assert floors
    scaled = [spec for spec in services if spec.scaling.schedule]
    for least in map(int, floors):
        assert all(least <= spec.scaling.max for spec in scaled)
