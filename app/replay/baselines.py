"""Policies to compare with, by the names they are known by; made of the same filters, scorers and pickers.

    random            any candidate
    round-robin       each in turn
    least-busy        the largest share of slots free
    p2c               the less busy of two drawn (power of two choices)
    cheapest-static   the cheapest at reference prices, however busy
    fastest-static    the soonest to the last token when idle, however busy
    sglang            the fewest unread prompt tokens times requests there (SGLang's cache-aware routing)

A baseline whose parts this version does not have is left out (`missing`). Policies of the configuration win.
"""

from __future__ import annotations

from app.config.deciding import PickerRef, PolicyConfig, ScorerRef
from app.routing import discovery, pickers, scorers

RECIPES: dict[str, tuple[str, str | None]] = {
    "random": ("random_choice", None),
    "round-robin": ("round_robin", None),
    "least-busy": ("max_score", "load"),
    "p2c": ("p2c", None),
    "cheapest-static": ("max_score", "cost"),
    "fastest-static": ("max_score", "unloaded"),
    "sglang": ("max_score", "queue"),
}
"""Name -> picker, scorer."""


def baselines() -> dict[str, PolicyConfig]:
    """Every baseline whose parts there are, as a configuration would have it."""
    left_out = missing()
    return {
        name: PolicyConfig(
            picker=PickerRef(use=picker), scorers=() if scorer is None else (ScorerRef(use=scorer, weight=1.0),)
        )
        for name, (picker, scorer) in RECIPES.items()
        if name not in left_out
    }


def missing() -> list[str]:
    """Baselines that cannot be made here."""
    picking, scoring = discovery.names(pickers), discovery.names(scorers)
    return [
        name
        for name, (picker, scorer) in RECIPES.items()
        if picker not in picking or (scorer is not None and scorer not in scoring)
    ]
