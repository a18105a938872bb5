"""Whose model an arrival is for."""

from __future__ import annotations

from app.aliases import table
from app.config.models import ModelConfig
from app.replay.formats import Arrival
from app.replay.names import named

MODELS = {"big": ModelConfig(aliases=("large",)), "small": ModelConfig()}
ALIASES = table(MODELS, {"prod": {"big": 80.0, "small": 20.0}, "fast": "small"})


def arrivals(*names: str | None) -> list[Arrival]:
    return [Arrival(float(at_s), 10, 5, model=name) for at_s, name in enumerate(names)]


def test_names_and_aliases_are_resolved_and_strangers_counted() -> None:
    found = named(arrivals("small", "large", "fast", None, "gpt-4", "gpt-4"), MODELS, ALIASES, "big")
    assert [each.model for each in found.arrivals] == ["small", "big", "small", "big", "big", "big"]
    assert found.unknown == {"gpt-4": 2}


def test_a_split_is_the_same_each_time_and_near_its_weights() -> None:
    asked = arrivals(*["prod"] * 1000)
    first = [each.model for each in named(asked, MODELS, ALIASES, "big").arrivals]
    assert first == [each.model for each in named(asked, MODELS, ALIASES, "small").arrivals]
    assert 150 <= first.count("small") <= 250
    moved = [
        each.model
        for each in named(asked, MODELS, table(MODELS, {"prod": {"big": 70.0, "small": 30.0}}), "big").arrivals
    ]
    assert all(new == "small" for old, new in zip(first, moved, strict=True) if old == "small"), "only a tenth moves"


def test_the_usual_model_may_be_an_alias() -> None:
    found = named(arrivals(None, "nobody"), MODELS, ALIASES, "fast")
    assert [each.model for each in found.arrivals] == ["small", "small"]
