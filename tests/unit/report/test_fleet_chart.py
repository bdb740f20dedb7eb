from __future__ import annotations

import re

from load_sample import load_report

from forebay.measure import FleetSize
from forebay.report import render_load_page

GROWN = [
    FleetSize(t=0.0, ready=1, target=1),
    FleetSize(t=20.0, ready=1, target=4, reason="tokens: 3.1 replicas' work asks for 4"),
    FleetSize(t=45.0, ready=4, target=4, missing=2),
    FleetSize(t=70.0, ready=4, target=2),
]


def heights(html: str, kind: str) -> list[tuple[float, float]]:
    """The corners of a line of the wide page's chart."""
    path = re.search(rf'<path class="line {kind}" d="([^"]+)"', html)
    assert path is not None, kind
    pairs = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path[1])
    return [(float(x), float(y)) for x, y in pairs]


def test_each_size_holds_until_the_next_was_seen() -> None:
    html = render_load_page(load_report(fleet=GROWN))
    asked, ready = heights(html, "asked"), heights(html, "ready")
    assert len(asked) == len(ready) == 2 * len(GROWN)
    for corners in (asked, ready):
        assert all(
            before[1] == after[1] for before, after in zip(*2 * [iter(corners)], strict=True)
        )
    assert asked[2][1] < asked[0][1], "four stand higher than one"
    assert asked[2][1] == ready[4][1], "four asked for are as many as four ready"
    assert heights(html, "missing")[0][1] < asked[4][1]


def test_it_stands_between_what_was_offered_and_its_latency() -> None:
    html = render_load_page(load_report(fleet=GROWN))
    places = [html.index(f"<h3>{name}") for name in ("Requests, and", "Replicas ", "Time to first")]
    assert places == sorted(places)
    assert "1 ready at first, 4 at most, 4 at the end; up to 2 more" in html


def test_a_fleet_of_fixed_size_has_no_target_and_an_unwatched_one_no_chart() -> None:
    fixed = render_load_page(load_report(fleet=[FleetSize(t=0.0, ready=3)]))
    assert 'class="line ready"' in fixed
    assert 'class="line asked"' not in fixed
    assert "<h3>Replicas" not in render_load_page(load_report())
