"""The bars of the evaluation, worked out from its figures. Pure: tables of evaluation.json in, verdicts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from app.replay.seeds import ORACLE, interval

OURS, ROUND_ROBIN = "cheapest-slo", "round-robin"
REACHED, KEPT_BY_ORACLE, LOST_BY_ROUND_ROBIN = 0.99, 0.995, 0.95
REGRET, REGRET_STRETCH = 0.08, 0.03

PASS, MISS, UNSETTLED, NOT_ASKED = "pass", "**MISS**", "not settled", "-"


class Verdict(NamedTuple):
    """`pass`, a miss, not settled (the interval holds 0) or not asked here; and the figures it rests on."""

    result: str
    why: str


def row_of(table: Mapping[str, Any], policy: str) -> Mapping[str, Any] | None:
    """A policy's row."""
    return next((row for row in table["policies"] if row["policy"] == policy), None)


def reaches(row: Mapping[str, Any] | None, share: float = REACHED) -> bool:
    """Whether a policy keeps that share of promises in the mean over seeds."""
    return row is not None and row["slo_attainment"] is not None and row["slo_attainment"] >= share


def rivals(table: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The policies that reach 99 %, ours among them or not, the cheapest first; the oracle is none."""
    found = [row for row in table["policies"] if row["policy"] != ORACLE and reaches(row) and row["usd_per_1k_good"]]
    return sorted(found, key=lambda row: float(row["usd_per_1k_good"]))


def dearer(row: Mapping[str, Any], ours: Mapping[str, Any]) -> tuple[float, tuple[float, float] | None]:
    """By what share a policy costs more per 1,000 good requests than ours, paired by seed, and the 95 % interval."""
    costs = {run["seed"]: run["usd_per_1k_good"] for run in ours["seeds"]}
    apart = [
        run["usd_per_1k_good"] / costs[run["seed"]] - 1.0
        for run in row["seeds"]
        if run["usd_per_1k_good"] and costs.get(run["seed"])
    ]
    return (fmean(apart), interval(apart)) if apart else (float("nan"), None)


def cheapest(table: Mapping[str, Any]) -> Verdict:
    """Ours costs the least of those that reach 99 %, beyond the paired interval."""
    ours = row_of(table, OURS)
    if ours is None or not reaches(ours):
        return Verdict(MISS, f"{OURS} itself keeps {_percent(ours)}, below 99 %")
    others = [row for row in rivals(table) if row is not ours]
    if not others:
        return Verdict(PASS, "no other policy reaches 99 %")
    apart = [(row["policy"], *dearer(row, ours)) for row in others]
    policy, by, between = min(apart, key=lambda each: each[1])
    told = f"next is {policy}, {100 * by:+.1f} %" + (
        "" if between is None else f" (95 % interval {100 * between[0]:+.1f} to {100 * between[1]:+.1f} %)"
    )
    if any(each is not None and each[1] < 0 for _, _, each in apart):
        return Verdict(MISS, told)
    if all(each is not None and each[0] > 0 for _, _, each in apart):
        return Verdict(PASS, told)
    return Verdict(UNSETTLED, told)


def kept(table: Mapping[str, Any]) -> Verdict:
    """Ours keeps 99 % wherever the oracle keeps 99.5 %."""
    oracle, ours = row_of(table, ORACLE), row_of(table, OURS)
    told = f"{_percent(ours)}, oracle {_percent(oracle)}"
    if not reaches(oracle, KEPT_BY_ORACLE):
        return Verdict(NOT_ASKED, told)
    return Verdict(PASS if reaches(ours) else MISS, told)


def regret(table: Mapping[str, Any]) -> Verdict:
    """Ours costs at most 8 % more than the oracle."""
    ours = row_of(table, OURS)
    if ours is None or ours["regret"] is None:
        return Verdict(MISS, "unknown")
    between = ours["ci95"]["regret"]
    half = "" if between is None else f" ±{50 * (between[1] - between[0]):.1f}"
    stretch = ", stretch of 3 % too" if ours["regret"] <= REGRET_STRETCH else ""
    return Verdict(PASS if ours["regret"] <= REGRET else MISS, f"{100 * ours['regret']:.1f}{half} %{stretch}")


def telling(tables: Sequence[Mapping[str, Any]]) -> Verdict:
    """At some load of the trace the oracle keeps 99.5 % and round-robin less than 95 %: routing matters there."""
    told = []
    for table in tables:
        oracle, blind = row_of(table, ORACLE), row_of(table, ROUND_ROBIN)
        if reaches(oracle, KEPT_BY_ORACLE) and blind is not None and not reaches(blind, LOST_BY_ROUND_ROBIN):
            told.append(f"load {table['load']:g}: oracle {_percent(oracle)}, round-robin {_percent(blind)}")
    return Verdict(PASS, "; ".join(told)) if told else Verdict(MISS, "at none of its loads")


def _percent(row: Mapping[str, Any] | None) -> str:
    return "nothing" if row is None or row["slo_attainment"] is None else f"{100 * row['slo_attainment']:.2f} %"
