"""Promises that nobody can keep, however idle, are warned of."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.config.load import load

FLEET = """
version: 1
slo: {{interactive: {{{promise}}}}}
models: {{llama-3.1-8b: {{}}}}
backends:
  - {{name: h100, kind: gpu, chip: h100, chips: 1, deployments: [{{model: llama-3.1-8b, precision: fp8}}],
     pricing: {{type: chip_hours, usd_per_chip_hour: 3.99, source: test, confidence: vendor-stated}}}}
"""
FASTER = """
  - {name: fast, kind: cerebras, chip: wse3, chips: 1, deployments: [{model: llama-3.1-8b, precision: bf16}],
     pricing: {type: chip_hours, usd_per_chip_hour: 3.99, source: test, confidence: vendor-stated}}
"""


def warnings(folder: Path, promise: str, more: str = "") -> tuple[str, ...]:
    path = folder / "turnout.yaml"
    path.write_text(FLEET.format(promise=promise) + more)
    return load(path).warnings


@pytest.mark.parametrize("promise", ["ttft_ms: 0.5", "tpot_ms: 0.5", "e2e_ms: 0.5"])
def test_a_promise_that_nobody_can_keep_is_warned_of(tmp_path: Path, promise: str) -> None:
    (warning,) = warnings(tmp_path, promise)
    assert warning.startswith(f"model 'llama-3.1-8b': no backend can keep {promise.replace(':', '')} of its SLO class")


def test_a_promise_that_one_of_two_backends_can_keep_is_not(tmp_path: Path) -> None:
    assert len(warnings(tmp_path, "tpot_ms: 2")) == 1
    assert warnings(tmp_path, "tpot_ms: 2", FASTER) == ()
    assert warnings(tmp_path, "ttft_ms: 1000, tpot_ms: 50") == ()
