"""The results page says what the figures say: passes, misses, what is not settled, and what was not evaluated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from app.replay.seeds import interval
from tests.benchmark import results_bars as bars
from tests.benchmark import results_page
from tests.benchmark.evaluation import code_hash

CODE = "AzureLLMInferenceTrace_code_2023.csv.gz"


def row(policy: str, costs: Sequence[float | None], kept: float, regret: float | None = None) -> dict[str, Any]:
    known = [cost for cost in costs if cost is not None]
    usd = sum(known) / len(known) if len(known) == len(costs) else None
    return {
        "policy": policy, "requests": 100, "usd_per_1k_good": usd, "slo_attainment": kept, "bill_with_idle_usd": 5.0,
        "goodput_rps": 1.0,
        "ttft_p50_s": 0.1, "ttft_p95_s": 0.2, "tpot_p50_s": 0.01, "tpot_p95_s": None, "regret": regret,
        "ci95": {"usd_per_1k_good": interval(known), "slo_attainment": None, "regret": None},
        "seeds": [{"seed": seed, "usd_per_1k_good": cost} for seed, cost in enumerate(costs)],
    }  # fmt: skip


def table(*rows: dict[str, Any], load: float = 0.5) -> dict[str, Any]:
    return {"trace": CODE, "load": load, "policies": list(rows)}


OURS = row("cheapest-slo", [1.0, 2.0, 3.0], 0.995, 0.05)
ORACLE = row("oracle", [0.9, 1.9, 2.9], 0.999, 0.0)


def test_cheapest_is_told_by_pairs_not_by_the_spread_over_seeds() -> None:
    dearer = row("sglang", [1.1, 2.2, 3.3], 0.991)  # the intervals of both overlap wildly, the pairs are all +10 %
    verdict = bars.cheapest(table(OURS, ORACLE, dearer, row("bad", [0.1, 0.1, 0.1], 0.98)))
    assert verdict.result == bars.PASS
    assert "next is sglang, +10.0 %" in verdict.why


def test_the_oracle_does_not_compete_and_who_keeps_too_little_neither() -> None:
    assert bars.cheapest(table(OURS, ORACLE, row("bad", [0.1, 0.1, 0.1], 0.98))) == (
        bars.PASS, "no other policy reaches 99 %",
    )  # fmt: skip


def test_cheapest_is_missed_or_not_settled() -> None:
    assert bars.cheapest(table(OURS, row("p2c", [0.9, 1.8, 2.7], 0.999))).result == bars.MISS
    assert bars.cheapest(table(OURS, row("p2c", [1.1, 1.9, 3.05], 0.999))).result == bars.UNSETTLED
    assert bars.cheapest(table(row("cheapest-slo", [1.0], 0.995), row("p2c", [2.0], 0.999))).result == bars.UNSETTLED
    low = row("cheapest-slo", [1.0, 1.0], 0.98)
    assert bars.cheapest(table(low)) == (bars.MISS, "cheapest-slo itself keeps 98.00 %, below 99 %")
    assert bars.cheapest(table(ORACLE)).result == bars.MISS


@pytest.mark.parametrize(
    ("ours", "oracle", "result"),
    [(0.99, 0.995, bars.PASS), (0.9899, 0.995, bars.MISS), (0.5, 0.9949, bars.NOT_ASKED)],
)
def test_kept_is_asked_where_the_oracle_keeps(ours: float, oracle: float, result: str) -> None:
    assert bars.kept(table(row("cheapest-slo", [1.0], ours), row("oracle", [1.0], oracle))).result == result


def test_regret() -> None:
    assert bars.regret(table(OURS)) == (bars.PASS, "5.0 %")
    assert bars.regret(table(row("cheapest-slo", [1.0], 1.0, 0.03))) == (bars.PASS, "3.0 %, stretch of 3 % too")
    assert bars.regret(table(row("cheapest-slo", [1.0], 1.0, 0.081))).result == bars.MISS
    assert bars.regret(table(row("cheapest-slo", [1.0], 1.0, None))).result == bars.MISS


def test_a_trace_tells_something_at_some_load() -> None:
    easy = table(ORACLE, row("round-robin", [1.0], 0.97), load=0.3)
    hard = table(ORACLE, row("round-robin", [1.0], 0.94), load=0.7)
    assert bars.telling([easy]).result == bars.MISS
    assert bars.telling([easy, hard]) == (bars.PASS, "load 0.7: oracle 99.90 %, round-robin 94.00 %")


def test_the_page(tmp_path: Path) -> None:
    tables = [
        table(OURS, ORACLE, row("p2c", [0.9, 1.8, 2.7], 0.999), row("none", [None, 1.0, 1.0], 0.2), load=0.35),
        table(OURS, ORACLE, row("p2c", [1.9, 2.8, 3.7], 0.999), load=0.25),
    ]
    capacity = {"trace": CODE, "hash": "cafe", "limit": 2000, "capacity": {"load": 0.5, "requests_per_s": 1.25}}
    stored = tmp_path / "evaluation.json"
    stored.write_text(json.dumps({"config": "c0", "code": "c1", "tables": tables, "capacity": [capacity]}))
    results_page.main(["--evaluation", str(stored), "--page", str(tmp_path / "results.md")])
    text = (tmp_path / "results.md").read_text()
    for said in (
        "config `c0`", "code `c1`", "0.25, 50 % of capacity", "0.35, 70 % of capacity", "| **cheapest-slo** |",
        "| **p2c** |", "`cheapest-slo` does **not** win here", "**MISS**: next is p2c, -10.0 %", "1.25 requests/s",
        "Not evaluated: AzureLLMInferenceTrace_conv_2023.csv.gz, mooncake", "policy `round-robin`",
        f"it was `{code_hash()}` when this page was written",
        f"turnout replay {CODE} --limit 2000 --load 0.35 --seeds 3 --policy cheapest-slo --policy p2c",
    ):  # fmt: skip
        assert said in text
    assert text.index("load 0.25, 50 %") < text.index("load 0.35, 70 %")
    parts = text.split("### ")[1:]
    assert len(parts) == 2
    assert all("Emulated, not a hardware result; made by" in part for part in parts)
    drawn = (tmp_path / results_page.picture_name(CODE)).read_text()
    assert "emulated, not a hardware result" in drawn
    assert len(ElementTree.fromstring(drawn).findall(".//{http://www.w3.org/2000/svg}polyline")) == 3


def test_without_an_evaluation_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        results_page.main(["--evaluation", str(tmp_path / "no.json"), "--page", str(tmp_path / "results.md")])
    assert ended.value.code == 1
    assert not list(tmp_path.iterdir())
