"""Which model of a configuration each arrival of a trace is for: by its name, by an alias, else the usual one. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from app.aliases import Alias
from app.config.models import ModelConfig
from app.replay.formats import Arrival


class Named(NamedTuple):
    """The arrivals, each for a model that there is; `unknown` counts names that are none, by name."""

    arrivals: list[Arrival]
    unknown: Mapping[str, int]


def named(
    arrivals: Sequence[Arrival], models: Mapping[str, ModelConfig], aliases: Mapping[str, Alias], usual: str
) -> Named:
    """A split alias sends each request to its own side, the same one in every run; `usual` may be an alias too."""
    unknown: Counter[str] = Counter()
    resolved: list[Arrival] = []
    for place, arrival in enumerate(arrivals):
        name = arrival.model
        if name is not None and name not in models and name not in aliases:
            unknown[name] += 1
            name = None
        if name is None:
            name = usual
        if name not in models:
            name = aliases[name].model(str(place))
        resolved.append(arrival if name == arrival.model else arrival._replace(model=name))
    return Named(resolved, unknown)
