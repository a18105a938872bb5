"""A status as people read it: sharing, and models that nobody serves."""

from __future__ import annotations

from typing import Any

import pytest

from app.cli.status import told, unserved


def backend(name: str, model: str = "m", *, drained: bool = False, gate: str | None = None) -> dict[str, Any]:
    gated = None if gate is None else {"reason": gate, "opens_in_s": 1.0}
    return {"name": name, "drained": drained, "gated": gated, "deployments": [{"model": model}]}


@pytest.mark.parametrize(
    ("backends", "expected"),
    [
        ([backend("a"), backend("b", drained=True)], {}),
        ([backend("a", drained=True), backend("b", drained=True), backend("c", "other")], {"m": "all drained"}),
        ([backend("a", gate="breaker_open"), backend("b", gate="breaker_open")], {"m": "all shut (breaker_open)"}),
        ([backend("a", drained=True), backend("b", gate="ejected")], {"m": "a drained, b shut (ejected)"}),
        ([backend("a", drained=True), backend("b", gate="full")], {}),
        ([backend("a", drained=True), backend("b", gate="cold")], {}),
        ([backend("c", "other")], {"m": "no backend has it"}),
    ],
)
def test_models_that_nobody_serves(backends: list[dict[str, Any]], expected: dict[str, str]) -> None:
    assert unserved(["m"], backends) == expected


def status(sharing: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "version": "1", "ready": True, "reason": None, "config": "abc", "path": "x", "models": ["m"], "in_flight": 0,
        "reload": {"successful": True, "last_success_epoch_s": 0.0}, "sharing": sharing,
        "backends": {"total": 1, "drained": [], "failing": [], "cold": [], "warming": []},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sharing", "says"),
    [
        (None, "sharing   off"),
        (
            {"up": True, "processes": 3, "oldest_row_s": 0.25},
            "sharing   on: the store answers; 3 processes told of late, the oldest of the others' rows is 0.2 s old",
        ),
        (
            {"up": True, "processes": 1, "oldest_row_s": 0.0},
            "sharing   on: the store answers; 1 process told of late\n",
        ),
        ({"up": False, "processes": 1, "oldest_row_s": 0.0}, "sharing   on: the store does NOT answer"),
    ],
)
def test_how_sharing_goes(sharing: dict[str, Any] | None, says: str) -> None:
    assert says in told(status(sharing), {})


def test_nobody_is_told_by_name() -> None:
    text = told(status(None), {"llama-3.3-70b": "all drained"})
    assert "llama-3.3-70b: nobody serves it: all drained" in text
