"""Prices that a list knows: `pricing: {type: list}` becomes the figures of the `genai-prices` package.

The package is an optional extra, imported when a configuration asks for it. What it knows is in it; nothing is fetched.
Of prices in tiers the first is taken. A model that it does not know is unpriced, and a warning says so.
"""

from __future__ import annotations

from decimal import Decimal
from importlib import import_module
from typing import Any

from app.config.models import Config, ListPricing, LiveBackendConfig, TokenPricing, UnpricedPricing
from app.config.source import Source

SAMPLE_TOKENS = 1000
PER_MILLION = 1_000_000 // SAMPLE_TOKENS


def resolved(config: Config, source: Source) -> tuple[Config, tuple[str, ...]]:
    """The configuration with every listed price found, and warnings; what is wrong is added to the source."""
    backends, warnings = list(config.backends), list[str]()
    for index, backend in enumerate(backends):
        if not isinstance(backend.pricing, ListPricing):
            continue
        model = backend.pricing.model or _model(backend)
        if model is None:
            say = "several models have several prices: a backend for each, or say `model`"
            source.problems.append(source.problem(("backends", index, "pricing"), say))
            continue
        try:
            priced: TokenPricing | UnpricedPricing = _looked_up(backend.pricing, model, getattr(backend, "url", None))
        except ModuleNotFoundError:
            say = "a listed price needs genai-prices: pip install 'turnout[prices]'"
            source.problems.append(source.problem(("backends", index, "pricing"), say))
            continue
        except LookupError as error:
            warnings.append(f"backend '{backend.name}': unpriced, its list has no price ({error.args[0]})")
            priced = UnpricedPricing(type="unpriced")
        backends[index] = backend.model_copy(update={"pricing": priced})
    return config.model_copy(update={"backends": tuple(backends)}), tuple(warnings)


def _model(backend: Any) -> str | None:
    """What the service calls its one model."""
    if len(backend.deployments) != 1:
        return None
    only = backend.deployments[0]
    upstream = only.upstream_model if isinstance(backend, LiveBackendConfig) else None
    return str(upstream or only.model)


def _looked_up(asked: ListPricing, model: str, url: str | None) -> TokenPricing:
    """Raises: ModuleNotFoundError; LookupError."""
    prices: Any = import_module("genai_prices")
    where: dict[str, str] = {}
    if asked.provider is not None:
        where = {"provider_id": asked.provider}
    elif url is not None:
        where = {"provider_api_url": url}

    def per_million(part: str, **usage: int) -> Decimal:
        found = prices.calc_price(prices.Usage(**usage), model, **where)
        return Decimal(getattr(found, part)) * PER_MILLION

    prompt, completion = asked.usd_per_million_prompt, asked.usd_per_million_completion
    cached = asked.usd_per_million_cached
    if prompt is None:
        prompt = per_million("input_price", input_tokens=SAMPLE_TOKENS)
    if completion is None:
        completion = per_million("output_price", output_tokens=SAMPLE_TOKENS)
    if cached is None:
        cached = per_million("input_price", input_tokens=SAMPLE_TOKENS, cache_read_tokens=SAMPLE_TOKENS)
    return TokenPricing(
        type="tokens",
        usd_per_million_prompt=prompt,
        usd_per_million_cached=cached,
        usd_per_million_completion=completion,
        source=f"genai-prices {prices.__version__}",
        confidence="secondary",
    )
