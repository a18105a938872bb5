"""What a benchmark run amounts to: promises, quantiles, money that is known and money that is not."""

from __future__ import annotations

from typing import Any

import pytest

from app.cli.client import Reply
from app.cli.report import Promise, summarise, tpot_s
from app.replay.formats import Arrival


def reply(substrate: str = "gpu", cost: float | None = 1e-6, **changes: Any) -> Reply:
    usage = {"prompt_tokens": 10, "completion_tokens": 11, "total_tokens": 21, "cost": cost}
    made = {"status": 200, "ttft_s": 0.1, "e2e_s": 0.6, "usage": usage, "headers": {"x-turnout-substrate": substrate}}
    return Reply(**{**made, **changes})


FAILED = Reply(status=503, error="no_backend", e2e_s=0.001, headers={})


def test_tpot_leaves_the_first_token_out() -> None:
    assert tpot_s(reply()) == pytest.approx(0.05)
    assert tpot_s(reply(usage={"completion_tokens": 1})) is None
    assert tpot_s(reply(ttft_s=None)) is None
    assert tpot_s(FAILED) is None


@pytest.mark.parametrize(
    ("promise", "prompt_tokens", "ttft_s", "e2e_s", "kept"),
    [
        (Promise(), 10, 1.0, 1.5, True),
        (Promise(), 10, 1.001, 1.5, False),
        (Promise(), 4000, 1.999, 2.0, True),
        (Promise(), 4000, 2.001, 2.1, False),
        (Promise(), 10, 0.1, 0.601, False),
        (Promise(tpot_s=None), 10, 0.1, 60.0, True),
        (Promise(None, 0.0, None, 0.5), 10, 0.1, 0.51, False),
    ],
)
def test_a_promise_is_kept_in_every_part(
    promise: Promise, prompt_tokens: int, ttft_s: float, e2e_s: float, kept: bool
) -> None:
    assert promise.kept(Arrival(0.0, prompt_tokens, 11), reply(ttft_s=ttft_s, e2e_s=e2e_s)) is kept


def test_failures_count_against_attainment_and_are_named() -> None:
    arrivals = [Arrival(0.0, 10, 11)] * 4
    summary = summarise(arrivals, [reply(), FAILED, FAILED, reply("maia")], [0.0, 0.1], Promise(), 2.0)
    assert (summary["offered"], summary["answered"]) == (4, 2)
    assert summary["errors"] == {"no_backend": 2}
    assert summary["slo_attainment"] == 0.5
    assert summary["completion_tokens_per_s"] == 11
    assert summary["send_lateness_p99_s"] == 0.1
    assert [row["substrate"] for row in summary["substrates"]] == ["gpu", "maia", "none"]
    assert summary["substrates"][2]["usd_per_million_tokens"] is None
    assert summary["substrates"][2]["failed"] == 2


def test_an_unknown_cost_is_never_a_zero() -> None:
    arrivals = [Arrival(0.0, 10, 11)] * 2
    known = summarise(arrivals, [reply(), reply()], [], Promise(), 1.0)["substrates"][0]
    assert known["cost_usd"] == pytest.approx(2e-6)
    assert known["usd_per_million_tokens"] == pytest.approx(2e-6 / 42 * 1e6)
    unknown = summarise(arrivals, [reply(), reply(cost=None)], [], Promise(), 1.0)["substrates"][0]
    assert (unknown["cost_usd"], unknown["usd_per_million_tokens"], unknown["unpriced"]) == (None, None, 1)


def test_cache_hits_have_a_row_of_their_own() -> None:
    hit = reply(headers={"x-turnout-substrate": "gpu", "x-turnout-cache": "hit"}, cost=0.0)
    summary = summarise([Arrival(0.0, 10, 11)] * 2, [reply(), hit], [], Promise(), 1.0)
    assert [(row["substrate"], row["cache_hits"]) for row in summary["substrates"]] == [("cache", 1), ("gpu", 0)]


def test_nothing_sent_is_no_division_by_zero() -> None:
    summary = summarise([], [], [], Promise(), 0.0)
    assert (summary["offered"], summary["slo_attainment"], summary["send_lateness_p99_s"]) == (0, None, None)
