"""Held requests in virtual time: they are asked again at the very moment a gate ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.config.load import load
from app.replay.formats import Arrival
from app.replay.records import Served
from app.replay.runs import Ledgered
from app.replay.simulation import Simulation
from app.replay.stage import stage
from app.routing.state import Gate

TWO = """\
version: 1
slo:
  interactive: {ttft_ms: 4000}
models:
  llama-3.1-8b: {default_max_tokens: 1024}
dispatch: {queue: {re_decisions: 1}}
backends:
"""
ONE = """\
  - {{name: {name}, kind: gpu, chip: h100, chips: 1, deployments: [{{model: llama-3.1-8b, precision: fp8}}],
     emulation: {{max_sequences: 4}},
     pricing: {{type: chip_hours, usd_per_chip_hour: 2.0, source: test, confidence: assumed}}}}
"""


def test_those_who_wait_go_to_a_backend_when_its_gate_ends(tmp_path: Path) -> None:
    path = tmp_path / "turnout.yaml"
    path.write_text(TWO + ONE.format(name="a") + ONE.format(name="b"))
    served: list[Served] = []
    stood = stage(load(path), 0, Ledgered())
    stood.fleet.state.gates["b"] = Gate("ejected", 3_000_000_000)
    simulation = Simulation(stood, "cheapest-slo", "llama-3.1-8b", served.append)
    simulation.run([Arrival(0.01 * number, 200, 900) for number in range(40)])
    b = stood.servers["b"].index
    began_s = sorted(
        each.at_s + (each.ttft_s or 0.0) - (each.attempt_ttft_s or 0.0) for each in served if each.backend == b
    )
    assert began_s[:3] == pytest.approx([3.0] * 3, abs=1e-9), "one after the other, for each finds its place"


def test_far_beyond_capacity_those_who_have_waited_do_not_make_everybody_late(tmp_path: Path) -> None:
    """A last decision that comes when not even an idle backend is likely to be in time must not be for a late answer:
    it would be late itself and make the next ones late, until nobody's promise is kept."""
    path = tmp_path / "turnout.yaml"
    path.write_text(
        TWO.replace("4000", "1000").replace("dispatch: {queue: {re_decisions: 1}}\n", "")
        + ONE.format(name="a").replace("max_sequences: 4", "max_sequences: 16")
    )
    served: list[Served] = []
    stood = stage(load(path), 0, Ledgered())
    simulation = Simulation(stood, "cheapest-slo", "llama-3.1-8b", served.append)
    simulation.run([Arrival(0.05 * number, 1000, 300) for number in range(1200)])
    kept = sum(each.good for each in served) / len(served)
    # Sixteen at a time, of 2.2 s or so each: 7 of the 20 that come in a second. 0.27 is measured, 0.02 without this.
    assert kept > 0.2
