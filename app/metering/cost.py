"""What tokens cost: bills in integer nano-USD, forecasts in float. Pure: no I/O, no clock.

Two kinds of price. A token list charges by kind:  cost = tokens * rate / 1e6, rounded half up, once per kind.
Silicon by the chip-hour charges busy time:        cost = share_ns * chips * rate / 3.6e12 ns.

The second kind never divides evenly, so each bill takes the remainder left by the one before it. Bills of one
backend then add up to the price of the summed time, to the nano-dollar, whatever the order.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple

from app.config.models import ListPricing, Pricing, TokenPricing, UnpricedPricing
from app.routing.types import CostForecast, EnergyForecast
from backends.types import EngineShare, LatencyProfile, PowerEstimate, Usage

NUSD_PER_USD = 1_000_000_000
NS_PER_HOUR = 3_600_000_000_000
MILLION = 1_000_000

CostKind = Literal["prompt", "cached", "completion", "reasoning", "request"]
KINDS: tuple[CostKind, ...] = ("prompt", "cached", "completion", "reasoning", "request")


class CostLines(NamedTuple):
    """What one request cost, by token kind in the order of `KINDS`, in nano-USD."""

    prompt_nusd: int = 0
    cached_nusd: int = 0
    completion_nusd: int = 0
    reasoning_nusd: int = 0
    request_nusd: int = 0

    @property
    def total_nusd(self) -> int:
        return sum(self)


FREE = CostLines()


@dataclass(frozen=True, slots=True)
class TokenRates:
    """A price list as integers: nano-USD per million tokens, and per request."""

    prompt: int
    cached: int
    completion: int
    request: int
    assumed: bool


@dataclass(frozen=True, slots=True)
class ChipHourRates:
    """Nano-USD per chip-hour, and the utilisation that forecasts (never bills) rest on."""

    chip_hour: int
    chips: int
    reference_utilisation: float
    assumed: bool

    @property
    def usd_per_engine_s(self) -> float:
        """What one second of the whole group costs."""
        return self.chip_hour * self.chips / NUSD_PER_USD / 3600


class UnknownRates(NamedTuple):
    """No price: bills are empty."""

    assumed: bool = True


Rates = TokenRates | ChipHourRates | UnknownRates

DEAR_NUSD_PER_TOKEN = 100_000.0
"""What decisions take for the price of a token that nobody knows: $ 100 a million, more than lists ask for a prompt, so
that ignorance is never thought cheap."""


def rates(pricing: Pricing, chips: int | None) -> Rates:
    """A configured price, turned into integers once; a price by the chip-hour needs chips."""
    if isinstance(pricing, UnpricedPricing):
        return UnknownRates()
    assert not isinstance(pricing, ListPricing), "resolved by app.config.prices"
    assumed = pricing.confidence not in ("vendor-stated", "derived", "secondary")
    if isinstance(pricing, TokenPricing):
        prompt = _nusd(pricing.usd_per_million_prompt)
        cached = pricing.usd_per_million_cached
        return TokenRates(
            prompt,
            prompt if cached is None else _nusd(cached),
            _nusd(pricing.usd_per_million_completion),
            _nusd(pricing.usd_per_request),
            assumed,
        )
    assert chips is not None, "refused by app.config.validate"
    return ChipHourRates(_nusd(pricing.usd_per_chip_hour), chips, pricing.reference_utilisation, assumed)


def bill_tokens(rates: TokenRates, usage: Usage) -> CostLines:
    """The list price of a request's tokens; reasoning tokens cost as completion tokens do."""
    return CostLines(
        _per_million(usage.prompt_tokens, rates.prompt),
        _per_million(usage.cached_tokens, rates.cached),
        _per_million(usage.completion_tokens, rates.completion),
        _per_million(usage.reasoning_tokens, rates.completion),
        rates.request if usage.total_tokens else 0,
    )


def bill_engine(rates: ChipHourRates, share: EngineShare, carry: int) -> tuple[CostLines, int]:
    """The price of busy time, and the remainder to hand to the next bill of the same backend.

    `carry` is in units of nano-USD / NS_PER_HOUR; start at 0.
    """
    prompt, carry = divmod(share.prompt_ns * rates.chips * rates.chip_hour + carry, NS_PER_HOUR)
    completion, carry = divmod(share.completion_ns * rates.chips * rates.chip_hour + carry, NS_PER_HOUR)
    return CostLines(prompt_nusd=prompt, completion_nusd=completion), carry


def price_of_time(rates: ChipHourRates, engine_ns: int) -> int:
    """What `engine_ns` of the whole group costs, busy or idle, in nano-USD (rounded down)."""
    return engine_ns * rates.chips * rates.chip_hour // NS_PER_HOUR


def forecast(rates: Rates, profile: LatencyProfile) -> CostForecast:
    """What decisions rest on: stable, and the same for every request of a size.

    Token lists: the list. Chip-hours, with b = reference_utilisation * max_sequences and $/s of the group:

        completion = $/s * (d0 + d1 b) / b     a decode step is shared by the b sequences in it
        prompt     = $/s * k                   a prompt token takes the engine for k seconds
        marginal completion = $/s * d1         one more sequence lengthens each step by d1

    The reference basis spreads the weights' read over the batch a healthy backend runs at; the marginal basis
    says what joining the batch adds.
    """
    if isinstance(rates, TokenRates):
        prompt, completion = rates.prompt / MILLION, rates.completion / MILLION
        return CostForecast(
            prompt, completion, float(rates.request), rates.cached / MILLION, prompt, completion, rates.assumed
        )
    if isinstance(rates, UnknownRates):
        dear = DEAR_NUSD_PER_TOKEN
        return CostForecast(dear, dear, 0.0, dear, dear, dear, rates.assumed)
    nusd_per_s = rates.usd_per_engine_s * NUSD_PER_USD
    batch = max(1.0, rates.reference_utilisation * profile.max_sequences)
    prompt = nusd_per_s * profile.prefill_s_per_token  # and a cached token takes none of the engine's time
    return CostForecast(
        prompt_nusd=prompt,
        completion_nusd=nusd_per_s * profile.tpot_s(batch) / batch,
        marginal_prompt_nusd=prompt,
        marginal_completion_nusd=nusd_per_s * profile.decode_s_per_sequence,
        assumed=rates.assumed,
    )


def energy(power: PowerEstimate | None, profile: LatencyProfile, utilisation: float) -> EnergyForecast | None:
    """Joules per token, estimated as `forecast` does for money; None where nobody has published what the chips draw."""
    if power is None:
        return None
    batch = max(1.0, utilisation * profile.max_sequences)
    return EnergyForecast(power.busy_w * profile.prefill_s_per_token, power.busy_w * profile.tpot_s(batch) / batch)


def forecast_bill(cost: CostForecast, usage: Usage) -> CostLines:
    """What `usage` would have cost at forecast prices: the reference price of a request, in nano-USD."""
    return CostLines(
        prompt_nusd=round(usage.prompt_tokens * cost.prompt_nusd),
        cached_nusd=round(usage.cached_tokens * cost.prompt_nusd),
        completion_nusd=round(usage.completion_tokens * cost.completion_nusd),
        reasoning_nusd=round(usage.reasoning_tokens * cost.completion_nusd),
        request_nusd=round(cost.request_nusd) if usage.total_tokens else 0,
    )


def _per_million(tokens: int, rate: int) -> int:
    return (tokens * rate + MILLION // 2) // MILLION


def _nusd(usd: Decimal) -> int:
    return int((usd * NUSD_PER_USD).to_integral_value())
