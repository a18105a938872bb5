"""Two runs of the same requests, compared one by one; means and paired intervals over seeds."""

from __future__ import annotations

from typing import Any

import pytest

from app.replay.difference import FIGURES, difference, paired

Outcome = tuple[str | None, bool]


def summary(usd: float | None, bill: float = 1.0) -> dict[str, Any]:
    return dict.fromkeys(FIGURES, 1.0) | {"usd_per_1k_good": usd, "bill_with_idle_usd": bill}


WAS: list[Outcome] = [("a", True), ("a", True), ("b", False), (None, False), ("b", True)]
IS_NOW: list[Outcome] = [("a", True), ("b", False), ("a", True), ("c", True), (None, False)]


def test_who_moves_and_whose_promise_is_kept_or_not_any_more() -> None:
    found = paired(WAS, IS_NOW, summary(1.0), summary(2.0))
    assert found.requests == 5
    assert found.moves == {("a", "b"): 1, ("b", "a"): 1, (None, "c"): 1, ("b", None): 1}
    assert (found.gained, found.lost) == (2, 2)


def test_the_same_moves_nobody() -> None:
    found = difference([paired(WAS, WAS, summary(1.0), summary(1.0))])
    assert (found["moved"], found["moves"]) == ({"requests": 0.0, "share": 0.0, "ci95": None}, [])
    assert found["promises"] == {"gained": 0.0, "lost": 0.0}
    assert found["figures"]["usd_per_1k_good"] == {"old": 1.0, "new": 1.0, "difference": 0.0, "ci95": None}


def test_seeds_are_paired_and_counts_are_means() -> None:
    seeds = [
        paired(WAS, IS_NOW, summary(1.0, 10.0), summary(1.5, 30.0)),
        paired(WAS, WAS, summary(3.0, 20.0), summary(3.5, 40.0)),
    ]
    found = difference(seeds)
    assert found["moved"]["requests"] == 2.0
    assert found["moved"]["share"] == pytest.approx(0.4)
    assert {(each["from"], each["to"], each["requests"]) for each in found["moves"]} == {
        ("a", "b", 0.5), ("b", "a", 0.5), (None, "c", 0.5), ("b", None, 0.5),
    }  # fmt: skip
    figure = found["figures"]["usd_per_1k_good"]
    assert figure["difference"] == pytest.approx(0.5)
    low, high = figure["ci95"]
    assert high - low < 1e-9  # the seeds differ, the pairs do not
    assert found["figures"]["bill_with_idle_usd"]["difference"] == pytest.approx(20.0)


def test_what_is_unknown_of_one_seed_is_unknown() -> None:
    seeds = [paired(WAS, WAS, summary(None), summary(1.0)), paired(WAS, WAS, summary(1.0), summary(1.0))]
    assert difference(seeds)["figures"]["usd_per_1k_good"] == {
        "old": None, "new": 1.0, "difference": None, "ci95": None,
    }  # fmt: skip


def test_runs_of_other_requests_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired(WAS, WAS[:-1], summary(1.0), summary(1.0))
