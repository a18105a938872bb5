"""Splits: their shares, and who stays where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.aliases import sticky_key, table
from app.call import Call, Options
from app.config.models import ModelConfig
from app.planning import Planner

KEYS = [f"session-{number}" for number in range(20_000)]
MODELS = {"big": ModelConfig(aliases=("large",)), "small": ModelConfig(), "tiny": ModelConfig()}


def call(model: str = "m", **fields: object) -> Call:
    return Call("req-1", "chat", model, ("hi",), b"", 0, **fields)  # type: ignore[arg-type]


def test_shares_are_kept_over_many_sessions() -> None:
    alias = table(MODELS, {"prod": {"big": 90, "small": 9, "tiny": 1}})["prod"]
    counts = dict.fromkeys(MODELS, 0)
    for key in KEYS:
        counts[alias.model(key)] += 1
    assert counts["big"] == pytest.approx(18_000, abs=3 * (20_000 * 0.9 * 0.1) ** 0.5)
    assert counts["small"] == pytest.approx(1_800, abs=3 * (20_000 * 0.09 * 0.91) ** 0.5)
    assert counts["tiny"] == pytest.approx(200, abs=3 * (20_000 * 0.01 * 0.99) ** 0.5)


def test_a_new_weight_moves_only_the_sessions_of_its_share() -> None:
    before = table(MODELS, {"prod": {"big": 95, "small": 5}})["prod"]
    after = table(MODELS, {"prod": {"big": 90, "small": 10}})["prod"]
    moved = [key for key in KEYS if before.model(key) != after.model(key)]
    assert {(before.model(key), after.model(key)) for key in moved} == {("big", "small")}
    assert len(moved) == pytest.approx(1_000, abs=100)


def test_aliases_split_independently_of_each_other() -> None:
    made = table(MODELS, {"one": {"big": 1, "small": 1}, "other": {"big": 1, "small": 1}})
    same = sum(made["one"].model(key) == made["other"].model(key) for key in KEYS)
    assert same == pytest.approx(10_000, abs=300)


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=3).filter(any), st.text())
def test_whoever_asks_gets_a_model_with_a_weight(weights: list[float], key: str) -> None:
    target = dict(zip(MODELS, weights, strict=False))
    alias = table(MODELS, {"a": target})["a"]
    assert target[alias.model(key)] > 0
    assert sum(share for _, share in alias.shares) == pytest.approx(1)
    assert alias.bounds[-1] == 2**64


def test_what_a_split_keeps_together() -> None:
    session = Options(session="s")
    assert sticky_key(call(options=session, user="u", seed=1)) == "s"
    assert sticky_key(call(user="u", seed=1)) == "u"
    assert sticky_key(call(seed=0)) == "0"
    assert sticky_key(call(user="")) == "req-1"


def test_names_of_models_win_and_their_own_aliases_count() -> None:
    planner = Planner(MODELS, {}, "p", table(MODELS, {"prod": "small"}))
    assert planner.names() == ["big", "small", "tiny", "large", "prod"]
    assert [planner.resolve(call(name)) for name in planner.names()] == ["big", "small", "tiny", "big", "small"]
