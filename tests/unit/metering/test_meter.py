"""One record, one bill, one row: what is paid, listed, unknown, wasted, saved."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.metering.cost import ChipHourRates, CostLines, Rates, TokenRates
from app.metering.ledger.ledger import Ledger
from app.metering.meter import Meter, PriceTable
from app.metering.metrics import OTHER, Metrics
from app.metering.types import RequestRecord
from app.routing.types import CostForecast
from backends.types import EngineShare, Usage

LIST = TokenRates(prompt=1_000_000, cached=500_000, completion=2_000_000, request=0, assumed=False)
# One chip for 3,600 nano-USD an hour: a second of it costs one nano-USD.
CHIPS = ChipHourRates(chip_hour=3600, chips=1, reference_utilisation=0.5, assumed=False)
USAGE = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=3)


def metrics() -> Metrics:
    return Metrics(["m"], list, ["default"], "hash", "0", {})


def meter(rates: Rates | None) -> tuple[Meter, Metrics, Ledger]:
    shown, ledger = metrics(), Ledger(Path("unused"), 1, 500, 1000)
    prices = PriceTable({} if rates is None else {"b": rates}, {"m": CostForecast(7, 11)})
    return Meter(prices, shown, ledger), shown, ledger


def record(**fields: object) -> RequestRecord:
    made = RequestRecord("r", 1, 0, "default", "chat", False, "m", "c", "ok", "won", "off", USAGE, "b", "gpu")
    return made._replace(**fields)  # type: ignore[arg-type]


def test_a_price_list_bills_by_kind_and_the_reference_stays_apart() -> None:
    billing, shown, ledger = meter(LIST)
    bill = billing.record(record())
    assert bill.effective == bill.list_price == CostLines(prompt_nusd=10, cached_nusd=2, completion_nusd=6)
    assert dict(shown.cost.items()) == {
        ("m", "b", "gpu", "default", "prompt"): 10,
        ("m", "b", "gpu", "default", "cached"): 2,
        ("m", "b", "gpu", "default", "completion"): 6,
    }
    assert bill.reference is not None
    assert shown.reference_cost.total() == bill.reference.total_nusd == 14 * 7 + 3 * 11
    assert (shown.unpriced.total(), shown.wasted.total(), ledger.waiting_rows) == (0, 0, 1)


def test_rented_time_carries_its_remainder_to_the_next_bill() -> None:
    billing, shown, _ = meter(CHIPS)
    bills = [billing.record(record(share=EngineShare(0, 400_000_000))).effective for _ in range(5)]
    assert [None if bill is None else bill.total_nusd for bill in bills] == [0, 0, 1, 0, 1]
    assert shown.cost.total() == 2
    assert shown.list_cost.total() == 0


@pytest.mark.parametrize(("rates", "share"), [(None, EngineShare(1, 1)), (CHIPS, None)])
def test_an_unknown_price_or_time_is_null_and_counted(rates: Rates | None, share: EngineShare | None) -> None:
    billing, shown, ledger = meter(rates)
    assert billing.record(record(share=share, outcome="failed")).effective is None
    assert dict(shown.unpriced.items()) == {("m", "b"): 1}
    assert (shown.cost.total(), shown.wasted.total(), ledger.waiting_rows) == (0, 0, 1)


@pytest.mark.parametrize(("outcome", "reason"), [("cancelled", "client_gone"), ("failed", "failed")])
def test_what_was_paid_for_and_not_delivered_is_named(outcome: str, reason: str) -> None:
    billing, shown, _ = meter(LIST)
    billing.record(record(outcome=outcome))
    assert dict(shown.wasted.items()) == {("b", reason): 18}
    assert shown.cost.total() == 18


@pytest.mark.parametrize("saved", [None, 0, 18])
def test_a_hit_costs_nothing_and_saves_what_was_paid(saved: int | None) -> None:
    billing, shown, ledger = meter(LIST)
    bill = billing.record_hit(record(outcome="cached"), saved, "exact")
    assert (bill.effective, bill.saved_nusd) == (CostLines(), saved)
    assert (shown.cost.total(), shown.tokens.total(), shown.cache_saved.total()) == (0, 0, saved or 0)
    assert (shown.cache_saved_tokens.total(), ledger.waiting_rows) == (3, 1)


def test_labels_outside_their_sets_become_other_and_are_counted() -> None:
    shown = metrics()
    assert (shown.model("m"), shown.tenant("default")) == ("m", "default")
    assert (shown.model("made-up"), shown.model(None), shown.tenant("x")) == (OTHER, OTHER, OTHER)
    assert dict(shown.label_overflow.items()) == {("model",): 1, ("tenant",): 1}


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [("", "text/plain"), ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text")],
)
def test_the_exposition_is_what_the_scraper_asked_for(accept: str, content_type: str) -> None:
    shown = metrics()
    shown.cost.add(("m", "b", "gpu", "default", "prompt"), 1_500_000_000)
    shown.ttft.observe(("m", "b"), 0.02)
    body, sent = shown.render(accept)
    assert sent.startswith(content_type)
    text = body.decode()
    labels = 'backend="b",kind="prompt",model="m",substrate="gpu",tenant="default"'
    line = next(line for line in text.splitlines() if line.startswith("turnout_cost_usd_total{"))
    assert sorted(line[line.index("{") + 1 : line.index("}")].split(",")) == labels.split(",")
    assert line.endswith("} 1.5")
    buckets = [line for line in text.splitlines() if line.startswith("turnout_time_to_first_token_seconds_bucket")]
    assert [float(bucket.rsplit(" ", 1)[1]) for bucket in buckets] == [0.0, 0.0, *[1.0] * (len(buckets) - 2)]
