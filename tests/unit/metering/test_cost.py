"""Prices: exact integers, whatever the order; forecasts by their documented formulas."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config.models import ChipHourPricing, TokenPricing
from app.metering import cost
from backends.types import EngineShare, Usage
from tests.builders import make_profile


def tokens(**fields: object) -> cost.TokenRates:
    base: dict[str, object] = {
        "type": "tokens",
        "usd_per_million_prompt": Decimal("0.59"),
        "usd_per_million_completion": Decimal("0.79"),
        "source": "test",
        "confidence": "vendor-stated",
    }
    made = cost.rates(TokenPricing(**(base | fields)), 1)  # type: ignore[arg-type]
    assert isinstance(made, cost.TokenRates)
    return made


def chips(usd: str = "3.99", count: int = 2, confidence: str = "vendor-stated") -> cost.ChipHourRates:
    made = cost.rates(
        ChipHourPricing(type="chip_hours", usd_per_chip_hour=Decimal(usd), source="t", confidence=confidence),  # type: ignore[arg-type]
        count,
    )
    assert isinstance(made, cost.ChipHourRates)
    return made


def test_lines_stand_in_the_order_of_kinds() -> None:
    assert cost.CostLines._fields == tuple(f"{kind}_nusd" for kind in cost.KINDS)


def test_a_price_list_charges_each_kind_once() -> None:
    rates = tokens(usd_per_million_cached=Decimal("0.1"), usd_per_request=Decimal("0.000001"))
    bill = cost.bill_tokens(rates, Usage(1000, 500, 200, 100))
    assert tuple(zip(cost.KINDS, bill, strict=True)) == (
        ("prompt", 590_000),
        ("cached", 50_000),
        ("completion", 158_000),
        ("reasoning", 79_000),
        ("request", 1000),
    )
    assert bill.total_nusd == 878_000


def test_cached_tokens_cost_as_prompt_tokens_unless_listed_and_nothing_costs_nothing() -> None:
    assert cost.bill_tokens(tokens(), Usage(0, 1000)).cached_nusd == 590_000
    assert cost.bill_tokens(tokens(usd_per_request=Decimal(1)), Usage()) == cost.FREE


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**12)), max_size=50), st.integers(1, 10**12))
def test_bills_of_time_add_up_to_the_price_of_the_summed_time(shares: list[tuple[int, int]], rate: int) -> None:
    rates = cost.ChipHourRates(rate, 3, 0.5, assumed=False)
    carry, billed = 0, 0
    for prompt_ns, completion_ns in shares:
        lines, carry = cost.bill_engine(rates, EngineShare(prompt_ns, completion_ns), carry)
        assert min(lines.prompt_nusd, lines.completion_nusd) >= 0
        billed += lines.total_nusd
    assert billed == cost.price_of_time(rates, sum(map(sum, shares)))
    assert 0 <= carry < cost.NS_PER_HOUR


def test_an_hour_of_a_group_costs_its_chips() -> None:
    assert cost.price_of_time(chips(), cost.NS_PER_HOUR) == 7_980_000_000
    assert chips().usd_per_engine_s == pytest.approx(7.98 / 3600)


def test_forecast_of_chip_hours_follows_its_formula() -> None:
    profile = make_profile(max_sequences=64, decode_base_s=0.01, decode_s_per_sequence=1e-4)
    forecast = cost.forecast(chips(), profile)
    nusd_per_s = 7.98 / 3600 * 1e9
    assert forecast.prompt_nusd == pytest.approx(nusd_per_s * 1e-4)
    assert forecast.completion_nusd == pytest.approx(nusd_per_s * (0.01 + 32e-4) / 32)
    assert forecast.marginal_completion_nusd == pytest.approx(nusd_per_s * 1e-4)


def test_forecast_of_a_list_is_the_list_and_assumptions_are_marked() -> None:
    forecast = cost.forecast(tokens(), make_profile())
    assert (forecast.prompt_nusd, forecast.completion_nusd, forecast.assumed) == (590.0, 790.0, False)
    assert chips(confidence="assumed").assumed
    assert chips(confidence="estimate").assumed
    assert not chips(confidence="secondary").assumed


def test_the_reference_price_of_a_request() -> None:
    forecast = cost.forecast(tokens(), make_profile())
    assert cost.forecast_bill(forecast, Usage(100, 50, 10)).total_nusd == 100 * 590 + 50 * 590 + 10 * 790
