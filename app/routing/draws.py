"""Draws that follow from a seed. `random.Random(seed)` does the same in 5 us, a fifth of a decision."""

from __future__ import annotations

from collections.abc import Sequence

MASK = (1 << 64) - 1
FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9


def uniform(seed: int) -> float:
    """A number in [0, 1) that looks random (multiplicative hashing, twice; Knuth, TAOCP 6.4)."""
    mixed = (seed * FIRST) & MASK
    return (((mixed ^ (mixed >> 29)) * SECOND) & MASK) / (MASK + 1)


def one_of(places: Sequence[int], seed: int) -> int:
    """One of the places."""
    return places[0] if len(places) == 1 else places[int(uniform(seed) * len(places))]


def by_lot(places: Sequence[int], seed: int, salts: Sequence[int]) -> list[int]:
    """The places in the order of their lots; `salts` are theirs.

    Each draws its lot from the seed and its own salt, so that neither the order of the others nor who else is there
    changes what it drew.
    """
    mixed = [((seed ^ salt) * FIRST) & MASK for salt in salts]
    lots = [((each ^ (each >> 29)) * SECOND) & MASK for each in mixed]  # `uniform`, without a call for each
    return [place for _, place in sorted(zip(lots, places, strict=True))]


def two_of(places: Sequence[int], seed: int, salts: Sequence[int]) -> Sequence[int]:
    """The first two by lot of the places (the only one, where there are no more); `salts` are everybody's."""
    return by_lot(places, seed, [salts[place] for place in places])[:2]
