import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel, create_model

from forebay.spec.files import Strict
from forebay.spec.service import FloorSpec, ServiceSpec
from forebay.spec.tenants import TenantsSpec, key_hash, short_hash
from forebay.spec.workload import WorkloadSpec

ROOT = Path(__file__).parents[4]
PAGES: dict[str, type[BaseModel]] = {
    "service.md": ServiceSpec,
    "workload.md": WorkloadSpec,
    "tenants.md": TenantsSpec,
}


def test_the_reference_pages_are_what_the_models_say() -> None:
    tool = ROOT / "tools/gen_reference.py"
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, check=False)
    assert done.returncode == 0, "docs/reference/ is stale; run tools/gen_reference.py"


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """A model and every one below it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for info in annotation.model_fields.values():
            yield from models(info.annotation)
    for part in get_args(annotation):
        yield from models(part)


def shown_defaults(page: str) -> Iterator[tuple[frozenset[str], str, Any]]:
    """The fields of each table, one of them, and what its default reads as."""
    for table in re.findall(r"(?:^\|.*\n)+", (ROOT / "docs/reference" / page).read_text(), re.M):
        rows = re.findall(r"^\| `([a-z_0-9]+)` \| .*? \| (.*?) \| ", table, re.M)
        for name, default in rows:
            if default.startswith("`"):
                yield (
                    frozenset(field for field, _ in rows),
                    name,
                    yaml.safe_load(default.strip("`")),
                )


@pytest.mark.parametrize("page", PAGES)
def test_every_default_that_is_shown_can_be_written(page: str) -> None:
    found = 0
    every: list[type[BaseModel]] = [*models(PAGES[page]), FloorSpec]
    known = {
        frozenset(info.alias or name for name, info in model.model_fields.items()): model
        for model in every
    }
    for fields, shown, value in shown_defaults(page):
        model = known[fields]
        ours = {(info.alias or name): (name, info) for name, info in model.model_fields.items()}
        name, info = ours[shown]
        one: Any = {name: (info.annotation, info)}
        read = create_model("One", __base__=Strict, **one).model_validate({shown: value})
        default = info.get_default(call_default_factory=True)
        assert default in (getattr(read, name), None), (model, shown)  # None: made when it is read
        found += 1
    assert found


def test_no_hash_that_is_shown_is_of_a_key_that_can_be_guessed() -> None:
    places = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", *(ROOT / "src").rglob("*.py")]
    shown = "".join(place.read_text() for place in places)
    guesses = ("", "a", "test", "secret", "password", "key", "example", "shop", "fb_", "1234")
    assert [guess for guess in guesses if short_hash(key_hash(guess)) in shown] == []


def test_metrics_are_named_as_prometheus_finds_them() -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text()
    for row in (
        "| `ray_forebay_requests_shed_total` | counter | `class`, `reason`, `replica` | ",
        "| `ray_forebay_queued_tokens` | gauge | `replica` | ",
        "| `ray_forebay_ttft_seconds` | histogram | `class`, `replica` | ",
        "| `ray_forebay_replicas_missing` | gauge | - | ",
    ):
        assert page.count(row) == 1
