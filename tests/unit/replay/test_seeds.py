"""Means, intervals, regret paired by seed."""

from __future__ import annotations

from typing import Any

import pytest

from app.replay.books import METRICS
from app.replay.seeds import combined, interval


def run(usd: float | None, requests: int = 10) -> dict[str, Any]:
    listed = ("without_slo", "answered", "good", "refused", "reasons", "attempts", "unpriced_requests",
              "cached_tokens", "backends", "predictions")  # fmt: skip
    return dict.fromkeys(METRICS, 1.0) | dict.fromkeys(listed, 0) | {"requests": requests, "usd_per_1k_good": usd}


def test_the_interval_is_students() -> None:
    assert interval([1.0]) is None
    found = interval([1.0, 2.0, 3.0])
    assert found is not None
    assert found == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5))


def test_regret_is_paired_by_seed() -> None:
    runs = {"a": {0: run(1.1), 1: run(2.2)}, "oracle": {0: run(1.0), 1: run(2.0)}}
    rows = {row["policy"]: row for row in combined(runs)}
    assert rows["a"]["regret"] == pytest.approx(0.1)
    low, high = rows["a"]["ci95"]["regret"]
    assert high - low < 1e-9  # the seeds differ, the pairs do not
    assert rows["oracle"]["regret"] == 0.0


def test_without_the_oracle_there_is_no_regret_and_what_is_unknown_stays_so() -> None:
    row = combined({"a": {0: run(None), 1: run(2.0)}})[0]
    assert row["regret"] is None
    assert row["usd_per_1k_good"] is None
