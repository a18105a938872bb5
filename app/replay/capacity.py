"""The capacity of a fleet on a trace: the highest load at which the oracle keeps 99.5 % of its promises. Bisection."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any, NamedTuple

BAR = 0.995
PRECISION = 0.02
"""The answer's relative error."""
LOWEST, HIGHEST = 1 / 64, 4096.0


class Attained(NamedTuple):
    """What the oracle attained at a load; a run that has missed too much already is broken off (`whole` False)."""

    load: float
    attainment: float
    whole: bool
    requests: int = 0


def capacity(attained: Callable[[float], Attained]) -> tuple[float | None, list[Attained]]:
    """(the highest load that keeps the bar, every load tried). None if even the lowest does not keep it, and
    `HIGHEST` if that still does."""
    tried: list[Attained] = []

    def kept(load: float) -> bool:
        tried.append(attained(load))
        return tried[-1].attainment >= BAR

    good = bad = 1.0
    if kept(1.0):
        while good < HIGHEST:
            bad = good * 2
            if not kept(bad):
                break
            good = bad
        else:
            return good, tried
    else:
        while bad > LOWEST:
            good = bad / 2
            if kept(good):
                break
            bad = good
        else:
            return None, tried
    while bad / good > 1 + PRECISION:
        middle = sqrt(good * bad)
        if kept(middle):
            good = middle
        else:
            bad = middle
    return good, tried


def described(load: float | None, tried: list[Attained], rate: float) -> dict[str, Any]:
    """The result as plain data; `rate` is the trace's own in requests per second."""
    return {
        "load": load,
        "requests_per_s": None if load is None else load * rate,
        "bar": BAR,
        "precision": PRECISION,
        "tried": [
            {
                "load": each.load,
                "slo_attainment": each.attainment,
                "whole": each.whole,
                "requests": each.requests,
            }
            for each in tried
        ],
    }
