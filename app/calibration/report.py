"""What a calibration says: errors per platform, metric and model, cross-validated twice, and the bars. Pure.

`kfold`: five folds by row. `unseen`: the model's whole architecture is left out, on every chip of the family. In both,
the constants of a platform, and the time per sequence and layer that all GPUs share, are chosen on the training part
alone. The law itself is not blind: its terms, its unfitted figures and how rows are read were settled with all points
in view (`NOT_BLIND`). Errors are |predicted / measured - 1| in percent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any, Literal

from app.calibration.fit import CrossValidated, Fit, cross_validated, fit, usable
from app.calibration.predict import Prepared
from backends.datasheet import Constants

FOLDS = 5
POOLED = ("h100", "h200", "b200", "mi300x")


NOT_BLIND = (
    "not blind: the law's terms, layers with experts x 1.3, steps that read prompts x 2, the fit's pulls and spreads",
    "and how rows are read (FP8 KV in InferenceX's vLLM, say) were settled with all points in view, in every column",
)
"""What the held-out columns do not hold out, said with them."""


@dataclass(frozen=True, slots=True)
class Assessed:
    """A row with its errors in percent: in the sample, held out by fold and by model (None: nothing to fit on)."""

    row: Prepared
    known: Constants
    error: float
    kfold: float | None
    unseen: float | None


@dataclass(frozen=True, slots=True)
class Chosen:
    """How many training parts chose which value of the shared number."""

    kfold: Mapping[float, int]
    unseen: Mapping[float, int]


def assess(
    rows: Sequence[Prepared],
    cross_validate: bool = True,
    versions: Mapping[float, Sequence[Prepared]] | None = None,
) -> tuple[Fit, list[Assessed], Chosen]:
    """Fit, and judge every row by it. Without cross-validation those columns are None.

    `versions`: the same rows under each value of a number that platforms share; each training part chooses its own.
    """
    found = fit(rows)
    places = {id(row): place for place, row in enumerate(row for row in rows if usable(row))}
    versions = versions or {}
    values, grid = list(versions), list(versions.values())
    blank = CrossValidated([None] * len(rows), {})
    folds = cross_validated(rows, lambda row: places.get(id(row), 0) % FOLDS, grid) if cross_validate else blank
    models = cross_validated(rows, lambda row: row.architecture, grid) if cross_validate else blank
    assessed = []
    for row, by_fold, by_model in zip(rows, folds.predicted, models.predicted, strict=True):
        known = found.of(row)
        if known is not None:
            measured = row.point.measured
            errors = [None if each is None else error_percent(each, measured) for each in (by_fold, by_model)]
            assessed.append(Assessed(row, known, error_percent(row.predicted(known), measured), errors[0], errors[1]))
    counts = [Counter(values[place] for place in each.chosen.values() if values) for each in (folds, models)]
    return found, assessed, Chosen(*(dict(sorted(each.items())) for each in counts))


def error_percent(predicted: float, measured: float) -> float:
    """|predicted / measured - 1| in percent."""
    return 100 * abs(predicted / measured - 1)


def quantile(values: Iterable[float], share: float) -> float | None:
    """Linear between the nearest two; None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    at = share * (len(ordered) - 1)
    low, high = ordered[floor(at)], ordered[ceil(at)]
    return low + (high - low) * (at - floor(at))


def summary(assessed: Sequence[Assessed]) -> dict[str, Any]:
    """n, median and p90 in the sample and in both cross-validations."""
    kfold = [each.kfold for each in assessed if each.kfold is not None]
    unseen = [each.unseen for each in assessed if each.unseen is not None]
    return {
        "n": len(assessed),
        "median_percent": quantile((each.error for each in assessed), 0.5),
        "p90_percent": quantile((each.error for each in assessed), 0.9),
        "kfold_n": len(kfold),
        "kfold_median_percent": quantile(kfold, 0.5),
        "unseen_n": len(unseen),
        "unseen_median_percent": quantile(unseen, 0.5),
        "unseen_p90_percent": quantile(unseen, 0.9),
    }


def platforms(assessed: Sequence[Assessed]) -> list[dict[str, Any]]:
    """A line per chip and software: the constants, and how well they do."""
    fitted = [each for each in assessed if usable(each.row)]
    lines: list[dict[str, Any]] = []
    for (chip, software), group in _groups(fitted, lambda row: (row.point.chip, row.point.software)):
        known = group[0].known
        lines.append(
            {
                "chip": chip,
                "software": software,
                "constants": {
                    "mfu": round(known.mfu, 3) if not group[0].row.pipeline else None,
                    "mbu": round(known.mbu, 3) if not group[0].row.pipeline else None,
                    "layer_time_us": round(known.layer_time_us, 1),
                    "moe_mfu": round(known.moe_mfu, 3)
                    if known.moe_mfu and any(e.row.moe and not e.row.pipeline for e in group)
                    else None,
                },
                **summary(group),
            }
        )
    return lines


def models(assessed: Sequence[Assessed]) -> list[dict[str, Any]]:
    """A line per chip, metric and model."""
    return [
        {"chip": chip, "metric": metric, "model": model, **summary(group)}
        for (chip, metric, model), group in _groups(
            assessed, lambda row: (row.point.chip, row.point.metric, row.point.model)
        )
    ]


def bars(assessed: Sequence[Assessed]) -> list[dict[str, Any]]:
    """The project's bars with what was measured against them."""
    fitted = [each for each in assessed if usable(each.row)]
    dense = [each for each in fitted if not each.row.moe]
    pooled = [each for each in dense if each.row.point.chip in POOLED]
    on = _on_chip
    return [
        _bar("dense, pooled over H100, H200, B200, MI300X", pooled, 11, 33),
        _bar("  the stretch", pooled, 8, 25),
        _bar("  held out by fold", pooled, 11, 33, "kfold"),
        *(_bar(f"dense, {chip}", on(dense, chip), 15, 40) for chip in POOLED),
        _bar("MoE, pooled", [each for each in fitted if each.row.moe and each.row.point.chip in POOLED], 25, None),
        *(
            _bar(f"MoE, {chip}", on([e for e in fitted if e.row.moe], chip), 25, None)
            for chip in ("h100", "h200", "b200")
        ),
        _bar("unloaded TTFT, h100", on([e for e in assessed if e.row.point.metric == "ttft"], "h100"), 20, None),
        *(_bar(f"unseen model, {chip}", on(fitted, chip), 15, None, "unseen") for chip in POOLED),
        _bar("groqchip1, per era", on(fitted, "groqchip1"), 15, None),
        _bar("wse3, per era", on(fitted, "wse3"), 15, None),
    ]


def _bar(
    name: str,
    group: Sequence[Assessed],
    median: float,
    p90: float | None,
    column: Literal["error", "kfold", "unseen"] = "error",
) -> dict[str, Any]:
    values = [getattr(each, column) for each in group]
    known = [value for value in values if value is not None]
    middle, tail = quantile(known, 0.5), quantile(known, 0.9)
    met = middle is not None and middle <= median and (p90 is None or (tail is not None and tail <= p90))
    return {
        "bar": name,
        "n": len(known),
        "median_percent": middle,
        "p90_percent": tail,
        "median_at_most": median,
        "p90_at_most": p90,
        "met": met,
    }


def _on_chip(assessed: Sequence[Assessed], chip: str) -> list[Assessed]:
    return [each for each in assessed if each.row.point.chip == chip]


def _groups(
    assessed: Sequence[Assessed], key: Callable[[Prepared], tuple[str, ...]]
) -> list[tuple[tuple[str, ...], list[Assessed]]]:
    found: dict[tuple[str, ...], list[Assessed]] = {}
    for each in assessed:
        found.setdefault(key(each.row), []).append(each)
    return sorted(found.items())
