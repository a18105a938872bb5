"""Fitting constants to points: least absolute log error, shrunk from chip towards family. Pure, deterministic.

A chip's constants under a software are pulled towards those of its family (chips with the same compute die) under
the same software, these towards the family's over all software, these weakly towards plain defaults: where rows are
many they decide, where they are few the family does, and an unseen combination takes the family's. One law for fit and
cross-validation, with these settings for every platform:

    loss = sum over rows of w |ln(predicted / measured)| + PULL * sum over constants of (ln(c / c_above) / SPREAD)^2

w makes a model at a precision weigh as the square root of its rows. A pipeline has one constant, time per layer, and no
pull: the median (of the logs) of what each row says it is.

A number that all platforms share (`lane_layer_us`) is part of the prepared rows: cross-validation gets the rows in a
version for each value of a grid, and chooses by the same loss on each training part alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, inf, log, sqrt
from statistics import median
from typing import NamedTuple

from app.calibration.predict import Prepared
from backends.datasheet import Constants

PULL, ROOT_PULL = 10.0, 0.02
SPREAD = (0.25, 0.15, 0.4, 0.4)
"""How far MFU, MBU, time per layer and the experts' MFU are expected to differ between relatives (log scale)."""

DEFAULT = Constants(mfu=0.5, mbu=0.85, layer_time_us=50.0, moe_mfu=0.3)

Level = tuple[str, ...]
"""(family,), (family, software) or (family, software, chip)."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Constants by level, the finest that had rows first."""

    constants: Mapping[Level, Constants]

    def of(self, row: Prepared) -> Constants | None:
        """The constants for a row: of the finest level there is; None if its family has none."""
        family, software, chip = row.family, row.point.software, row.point.chip
        for level in ((family, software, chip), (family, software), (family,)):
            if level in self.constants:
                return self.constants[level]
        return None


def usable(row: Prepared) -> bool:
    """Whether a row takes part in a fit: times to first token never do."""
    return row.point.metric != "ttft"


Memo = dict[tuple[int, ...], Mapping[Level, Constants]]
"""A family's constants by the identities of the rows they were fitted on."""


def fit(rows: Sequence[Prepared], memo: Memo | None = None) -> Fit:
    """Constants of every family, software and chip that the rows know. `memo` spares fitting the same rows again."""
    found: dict[Level, Constants] = {}
    memo = {} if memo is None else memo
    for family, of_family in grouped([row for row in rows if usable(row)], lambda row: row.family).items():
        key = tuple(map(id, of_family))
        if key not in memo:
            memo[key] = _fit_family(family, of_family)
        found |= memo[key]
    return Fit(found)


def _fit_family(family: str, rows: Sequence[Prepared]) -> dict[Level, Constants]:
    pull, root_pull = (0.0, 0.0) if rows[0].pipeline else (PULL, ROOT_PULL)
    above = minimise(rows, DEFAULT, root_pull)
    found: dict[Level, Constants] = {(family,): above}
    for software, of_software in grouped(rows, lambda row: row.point.software).items():
        if not software:
            continue
        found[family, software] = near = minimise(of_software, above, pull)
        for chip, of_chip in grouped(of_software, lambda row: row.point.chip).items():
            found[family, software, chip] = minimise(of_chip, near, pull)
    return found


def grouped(rows: Sequence[Prepared], key: Callable[[Prepared], str]) -> dict[str, list[Prepared]]:
    """Rows by a key, in the key's order."""
    found: dict[str, list[Prepared]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return dict(sorted(found.items()))


class CrossValidated(NamedTuple):
    """What is predicted of every row by constants that saw no row of its fold (None if nothing is left to fit on), and
    for every fold which version of the rows its training part chose."""

    predicted: list[float | None]
    chosen: dict[Hashable, int]


def cross_validated(
    rows: Sequence[Prepared],
    fold: Callable[[Prepared], Hashable],
    versions: Sequence[Sequence[Prepared]] = (),
) -> CrossValidated:
    """Every fold predicted from the others. `versions`: the same rows under each value of a shared number; without, as
    they are."""
    versions = versions or (rows,)
    folds = [fold(row) for row in rows]
    predicted: list[float | None] = [None] * len(rows)
    chosen: dict[Hashable, int] = {}
    memo: Memo = {}
    for left_out in sorted(set(folds), key=str):
        fits: list[tuple[float, int, Fit]] = []
        for version in versions:
            training = [row for row, of in zip(version, folds, strict=True) if of != left_out]
            found = fit(training, memo)
            fits.append((misfit(training, found) if len(versions) > 1 else 0.0, len(fits), found))
        _, best, constants = min(fits, key=lambda each: each[:2])
        chosen[left_out] = best
        for place, row in enumerate(versions[best]):
            if folds[place] == left_out and (known := constants.of(row)) is not None:
                predicted[place] = row.predicted(known)
    return CrossValidated(predicted, chosen)


def misfit(rows: Sequence[Prepared], found: Fit) -> float:
    """The loss without the pull, over all platforms, each at the constants that are used for it."""
    total = 0.0
    for group in grouped(
        [row for row in rows if usable(row)], lambda row: f"{row.point.chip} {row.point.software}"
    ).values():
        known = found.of(group[0])
        if known is not None:
            total += sum(
                weight * abs(log(row.predicted(known)) - measured) for row, weight, measured in _weighted(group)
            )
    return total


def minimise(rows: Sequence[Prepared], above: Constants, pull: float) -> Constants:
    """The constants with the least loss over the rows, pulled towards `above`."""
    if rows[0].pipeline:
        return replace(above, layer_time_us=exp(median(log(_layer_time_us(row, above)) for row in rows)))
    weighted = _weighted(rows)
    centre = _vector(above)
    free = _touched(rows)

    def loss(values: Sequence[float]) -> float:
        vector = list(centre)
        for place, value in zip(free, values, strict=True):
            vector[place] = value
        if vector[0] > 0 or vector[1] > 0 or vector[3] > 0 or vector[2] < 0:
            return inf  # a share of a peak past 1, or a layer under a microsecond
        known = _constants(vector)
        misfit = sum(weight * abs(log(row.predicted(known)) - measured) for row, weight, measured in weighted)
        return misfit + pull * sum(((v - c) / s) ** 2 for v, c, s in zip(vector, centre, SPREAD, strict=True))

    found = list(centre)
    for place, value in zip(free, _nelder_mead(loss, [centre[place] for place in free]), strict=True):
        found[place] = value
    return _constants(found)


def _weighted(rows: Sequence[Prepared]) -> list[tuple[Prepared, float, float]]:
    """Rows with their weights (one on average) and the logarithm of what was measured."""
    counts = Counter((row.point.model, row.point.precision) for row in rows)
    weights = [1 / sqrt(counts[row.point.model, row.point.precision]) for row in rows]
    scale = len(rows) / sum(weights)
    return [(row, weight * scale, log(row.point.measured)) for row, weight in zip(rows, weights, strict=True)]


def _layer_time_us(row: Prepared, known: Constants) -> float:
    """The time per layer that a row of a pipeline implies: its pace is in proportion."""
    slower = row.point.measured / row.predicted(known)
    return known.layer_time_us * (slower if row.point.metric == "tpot" else 1 / slower)


def _touched(rows: Sequence[Prepared]) -> list[int]:
    """Which of the four constants the rows depend on at all; the others stay where they are."""
    dense, moe = any(not row.moe for row in rows), any(row.moe for row in rows)
    return [0] * dense + [1, 2] + [3] * moe


def _vector(known: Constants) -> tuple[float, ...]:
    return log(known.mfu), log(known.mbu), log(known.layer_time_us), log(known.moe_mfu or known.mfu)


def _constants(vector: Sequence[float]) -> Constants:
    return Constants(*(exp(value) for value in vector))


def _nelder_mead(loss: Callable[[Sequence[float]], float], start: Sequence[float]) -> list[float]:
    """The downhill simplex of Nelder and Mead (1965), restarted once from where it stops."""
    best = list(start)
    for size in (0.2, 0.07):
        corners = [best] + [[v - size * (place == i) for i, v in enumerate(best)] for place in range(len(best))]
        simplex = sorted((loss(corner), corner) for corner in corners)
        for _ in range(250):
            low, high = simplex[0][0], simplex[-1][0]
            if high - low < 1e-5 * (1 + abs(low)):
                break
            _step(simplex, loss)
        best = simplex[0][1]
    return best


def _step(simplex: list[tuple[float, list[float]]], loss: Callable[[Sequence[float]], float]) -> None:
    worst_loss, worst = simplex[-1]
    size = len(simplex) - 1
    centre = [sum(corner[i] for _, corner in simplex[:-1]) / size for i in range(size)]

    def towards(factor: float) -> tuple[float, list[float]]:
        corner = [c + factor * (w - c) for c, w in zip(centre, worst, strict=True)]
        return loss(corner), corner

    reflected = towards(-1.0)
    if reflected[0] < simplex[0][0]:
        simplex[-1] = min(reflected, towards(-2.0))
    elif reflected[0] < simplex[-2][0]:
        simplex[-1] = reflected
    else:
        inside = min(towards(-0.5), towards(0.5))
        if inside[0] < worst_loss:
            simplex[-1] = inside
        else:
            best = simplex[0][1]
            for place in range(1, len(simplex)):
                corner = [(b + v) / 2 for b, v in zip(best, simplex[place][1], strict=True)]
                simplex[place] = (loss(corner), corner)
    simplex.sort()
