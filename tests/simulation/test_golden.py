"""The golden replays: a thousand requests of each kind of trace come out as written down, digit for digit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.simulation import golden


@pytest.mark.parametrize("name", golden.TRACES)
def test_a_thousand_requests_come_out_as_they_did(tmp_path: Path, name: str) -> None:
    """Row: golden. Where a change is meant: `python -m tests.simulation.golden --write`, and look at the difference."""
    written = (golden.FOLDER / f"{name}.json").read_text()
    played = golden.played(name, tmp_path)
    assert json.loads(played)["policies"] == json.loads(written)["policies"]
    assert played == written


@pytest.mark.parametrize("name", golden.TRACES)
def test_what_is_written_down_tells_policies_apart(name: str) -> None:
    """Else the table would show no change of a decision."""
    table = json.loads((golden.FOLDER / f"{name}.json").read_text())["policies"]
    assert tuple(table) == golden.POLICIES
    default = table["cheapest-slo"]
    assert default["requests"] == golden.REQUESTS
    assert default["slo_attainment"] >= 0.99
    rest = [table[policy] for policy in golden.POLICIES[1:-1]]
    assert all(row["usd_per_1k_good"] > 1.5 * default["usd_per_1k_good"] for row in rest)
    assert any(row["slo_attainment"] < 0.95 for row in rest)
