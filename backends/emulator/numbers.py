"""Numbers that a JSON schema allows, in fractions: 0.29 is 29 steps of 0.01, and 2**53 + 1 is not 2**53. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from math import ceil, floor
from random import Random
from sys import float_info
from typing import Any

MOST_STEPS = 1000
TRIES = 64
_KEYS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf")


def drawn(
    schema: Mapping[str, Any], whole: bool, random: Random, fits: Callable[[float | int], bool]
) -> float | int | None:
    """A number within the schema's bounds, a whole one if so asked; None where none was found.

    `fits` says whether who checks it, in floating point, finds it a multiple too.
    """
    given = {key: _exact(schema[key]) for key in _KEYS if key in schema}
    if any(abs(value) > float_info.max for value in given.values()):
        return None
    step = given.get("multipleOf", Fraction(1) if whole else None)
    if step is None:
        return _between(given, random)
    if whole:
        step = Fraction(step.numerator)  # the least whole number that is a multiple
    first, last = _range(given, step)
    places = range(first, min(last, first + MOST_STEPS) + 1)
    for place in random.sample(places, min(TRIES, len(places))):
        value = _plain(place * step)
        if abs(value) <= float_info.max and fits(value):
            return value
    return None


def _exact(value: float | int) -> Fraction:
    """What is written, not the binary number next to it."""
    return Fraction(repr(value)) if isinstance(value, float) and not value.is_integer() else Fraction(value)


def _plain(value: Fraction) -> float | int:
    return value.numerator if value.denominator == 1 else float(value)


def _between(given: Mapping[str, Fraction], random: Random) -> float | int:
    lows = [given[key] for key in ("minimum", "exclusiveMinimum") if key in given]
    highs = [given[key] for key in ("maximum", "exclusiveMaximum") if key in given]
    if not lows and not highs:
        return random.randint(0, 99) / 4
    low = max(lows) if lows else min(highs) - 10
    high = min(highs) if highs else low + 10
    return _plain(low + (high - low) * Fraction(random.randint(1, 15), 16))


def _range(given: Mapping[str, Fraction], step: Fraction) -> tuple[int, int]:
    """The first and the last number of steps."""
    firsts = [ceil(given["minimum"] / step)] if "minimum" in given else []
    firsts += [floor(given["exclusiveMinimum"] / step) + 1] if "exclusiveMinimum" in given else []
    lasts = [floor(given["maximum"] / step)] if "maximum" in given else []
    lasts += [ceil(given["exclusiveMaximum"] / step) - 1] if "exclusiveMaximum" in given else []
    if not firsts and not lasts:
        return 0, 99
    first = max(firsts) if firsts else min(lasts) - 20
    return first, min(lasts) if lasts else first + 20
