"""The page in real Chromium; skipped where there is none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from demo_sample import demo_data

from forebay.report import render_demo_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_page_opens_and_draws_its_charts(tmp_path: Path) -> None:
    data = demo_data()
    page = tmp_path / "page.html"
    page.write_text(render_demo_page(data), "utf-8")
    shot = tmp_path / "page.png"
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            *FLAGS,
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--screenshot={shot}",
            "--window-size=1280,2400",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert f"<title>{data.title}</title>" in done.stdout
    assert done.stdout.count("<svg") >= 2
    assert done.stdout.count("<tr") >= len(data.stages)
    assert shot.stat().st_size > 20_000, "the page came out empty"
