"""From runs of several seeds to means with 95 % intervals, and the regret against the oracle paired by seed. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import fmean, stdev
from typing import Any

from app.replay.books import METRICS

ORACLE = "oracle"

T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Student's t at 0.975 for 1, 2, ... degrees of freedom."""

Interval = tuple[float, float]


def interval(values: Sequence[float]) -> Interval | None:
    """The 95 % interval of the mean; None for fewer than two values."""
    if len(values) < 2:
        return None
    degrees = len(values) - 1
    half = (T_975[degrees - 1] if degrees <= len(T_975) else 1.96) * stdev(values) / sqrt(len(values))
    middle = fmean(values)
    return middle - half, middle + half


def combined(runs: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """A row per policy, of its runs by seed; a mean over seeds is None where any of them is."""
    return [_row(policy, by_seed, runs.get(ORACLE)) for policy, by_seed in runs.items()]


def _row(
    policy: str, by_seed: Mapping[int, Mapping[str, Any]], oracle: Mapping[int, Mapping[str, Any]] | None
) -> dict[str, Any]:
    first = next(iter(by_seed.values()))
    row: dict[str, Any] = {"policy": policy, "requests": first["requests"]}
    intervals: dict[str, Interval | None] = {}
    for name in METRICS:
        values = [run[name] for run in by_seed.values()]
        row[name], intervals[name] = _mean(values)
    regrets = None if oracle is None else [_regret(run, oracle.get(seed)) for seed, run in by_seed.items()]
    row["regret"], intervals["regret"] = (None, None) if regrets is None else _mean(regrets)
    row["ci95"] = intervals
    for name in ("forecast_usd", "token_spend_usd", "effective_usd", "bill_with_idle_usd", "lower_bound"):
        row[name] = _mean([run.get(name) for run in by_seed.values()])[0]
    for name in ("without_slo", "answered", "good", "refused", "reasons", "attempts", "unpriced_requests",
                 "cached_tokens", "backends", "predictions"):  # fmt: skip
        row[name] = first[name]
    row["unknown_models"] = first.get("unknown_models", {})
    if "impossible" in first:
        row["impossible"] = first["impossible"]
    row["seeds"] = [{"seed": seed, **{name: run[name] for name in ("requests", *METRICS)}}
                    for seed, run in by_seed.items()]  # fmt: skip
    return row


def _mean(values: Sequence[float | None]) -> tuple[float | None, Interval | None]:
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None, None
    return fmean(known), interval(known)


def _regret(run: Mapping[str, Any], oracle: Mapping[str, Any] | None) -> float | None:
    if oracle is None or not run["usd_per_1k_good"] or not oracle["usd_per_1k_good"]:
        return None
    return float(run["usd_per_1k_good"] / oracle["usd_per_1k_good"] - 1.0)
