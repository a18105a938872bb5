"""The receipt as a table: who won, and what is said of each of the others."""

from __future__ import annotations

import io
from typing import Any

import click
import pytest
from rich.console import Console

from app.cli.explain import command, show, slo_headers


def candidate(name: str, cost_usd: float, why_not: str = "", **changes: Any) -> dict[str, Any]:
    times = {"ttft_s": 0.1, "ttft_q90_s": 0.2, "tpot_s": 0.01, "tpot_q90_s": 0.03, "pace_q90_s": 0.02, "e2e_s": 1.5}
    return {
        "backend": name, "substrate": "gpu", "in_flight": 3, "feasible": not why_not, "why_not": why_not,
        "violation": 0.0, "slack": 0.5, "predicted": {**times, "cost_usd": cost_usd}, "scores": {},
        "calibrated": True, "price_assumed": False, **changes,
    }  # fmt: skip


def shown(chosen: str | None, *candidates: dict[str, Any], reason: str = "cheapest_feasible") -> str:
    receipt = {
        "id": "d-1", "config": "abc", "policy": "p", "seed": 1, "reason": reason, "chosen": chosen, "margin": 0.1,
        "request": {"model": "m", "prompt_tokens": 5, "completion_tokens": 6, "slo": {"ttft_s": 0.3, "e2e_s": None}},
        "candidates": list(candidates), "rejected": [{"backend": "asleep", "reason": "drained"}],
    }  # fmt: skip
    out = io.StringIO()
    show(receipt, Console(file=out, width=200))
    return out.getvalue()


def line(text: str, backend: str) -> str:
    return next(line for line in text.splitlines() if backend in line)


def test_everyone_gets_a_verdict() -> None:
    text = shown("cheap", candidate("cheap", 1e-3), candidate("dear", 3e-3), candidate("slow", 5e-4, "ttft+tpot"))
    assert "WINS: cheapest_feasible" in line(text, "cheap ")
    assert "200% dearer" in line(text, "dear ")
    assert "misses ttft and tpot, 50% cheaper" in line(text, "slow ")
    assert "rejected: drained" in line(text, "asleep")
    assert "promised: ttft 300 ms" in text
    assert "chosen: cheap (cheapest_feasible)" in text


def test_scores_are_shown_where_they_decided() -> None:
    text = shown(
        "a", candidate("a", 1e-3, scores={"cost": 0.25, "load": 0.5}), candidate("b", 9e-3, scores={"cost": 0.1})
    )
    assert "WINS: cheapest_feasible, score 0.750" in line(text, "│ a ")
    assert "score 0.100" in line(text, "│ b ")


def test_marks_for_what_is_not_measured_and_not_priced() -> None:
    text = shown("a", candidate("a", 1e-3, calibrated=False, price_assumed=True))
    assert "gpu ?" in line(text, "│ a ")
    assert "0.0010000*" in line(text, "│ a ")


def test_nobody_is_chosen_and_nothing_costs() -> None:
    assert "nobody can serve this: no_candidates" in shown(None, reason="no_candidates")
    assert "WINS" in line(shown("a", candidate("a", 0.0), candidate("b", 1.0)), "│ a ")


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        (None, {}),
        ("ttft=300ms, tpot=20ms,e2e=2s", {"x-slo-ttft-ms": "300", "x-slo-tpot-ms": "20", "x-slo-e2e-ms": "2000"}),
        ("ttft=1.5s", {"x-slo-ttft-ms": "1500"}),
    ],
)
def test_promises_become_headers(text: str | None, headers: dict[str, str]) -> None:
    assert slo_headers(click.Context(command), command.params[0], text) == headers


@pytest.mark.parametrize("text", ["ttft", "ttft=", "ttft=soon", "ttft=5", "speed=5ms", "ttft=1.2.3ms", "ttft=.ms"])
def test_other_promises_are_usage_errors(text: str) -> None:
    with pytest.raises(click.BadParameter):
        slo_headers(click.Context(command), command.params[0], text)
