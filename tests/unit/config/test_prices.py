"""`pricing: {type: list}`: what the list knows becomes figures, what it does not is unpriced and said to be."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path

import pytest

from app.config.load import LoadedConfig, load
from app.config.models import TokenPricing, UnpricedPricing
from app.errors import ConfigError
from app.metering import cost
from tests.upstreams import PROFILE

CONFIG = """\
version: 1
extends: shipped
models: {m: {}}
backends:
  - name: up
    mode: live
    kind: hosted
    url: https://api.openai.com
    profile: {ttft_ms: 300, tpot_ms: 10}
    deployments: [{model: m, upstream_model: gpt-4o-mini, context_tokens: 128000}]
    pricing: {type: list}
"""


def loaded(folder: Path, text: str = CONFIG) -> LoadedConfig:
    (folder / "turnout.yaml").write_text(text)
    return load(folder / "turnout.yaml", {})


def price(config: LoadedConfig) -> TokenPricing | UnpricedPricing:
    found = config.config.backends[0].pricing
    assert isinstance(found, TokenPricing | UnpricedPricing)
    return found


def test_the_seller_is_found_by_its_address(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    found = price(config)
    assert isinstance(found, TokenPricing)
    assert (found.usd_per_million_prompt, found.usd_per_million_cached, found.usd_per_million_completion) == (
        Decimal("0.15"), Decimal("0.075"), Decimal("0.6"),
    )  # fmt: skip
    assert found.source.startswith("genai-prices ")
    assert config.warnings == ()


def test_seller_and_model_may_be_named_and_figures_win(tmp_path: Path) -> None:
    named = "{type: list, provider: groq, model: llama-3.3-70b-versatile, usd_per_million_completion: 9}"
    text = CONFIG.replace("{type: list}", named).replace("https://api.openai.com", "http://10.0.0.1:8000")
    found = price(loaded(tmp_path, text))
    assert isinstance(found, TokenPricing)
    assert (found.usd_per_million_prompt, found.usd_per_million_completion) == (Decimal("0.59"), Decimal(9))


@pytest.mark.parametrize(
    "text",
    [
        CONFIG.replace("upstream_model: gpt-4o-mini", "upstream_model: nobody-has-it"),
        CONFIG.replace("https://api.openai.com", "http://10.0.0.1:8000"),
        CONFIG.replace("{type: list}", "{type: list, provider: nobody}"),
    ],
)
def test_what_the_list_does_not_know_is_unpriced_and_said_to_be(tmp_path: Path, text: str) -> None:
    config = loaded(tmp_path, text)
    assert isinstance(price(config), UnpricedPricing)
    (warning,) = config.warnings
    assert "backend 'up': unpriced, its list has no price" in warning


def test_without_the_package_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(ConfigError, match=r"turnout.yaml:11:5: backends\[0\].pricing: .*turnout\[prices\]"):
        loaded(tmp_path)


def test_several_models_have_several_prices(tmp_path: Path) -> None:
    text = CONFIG.replace("models: {m: {}}", "models: {m: {}, o: {}}").replace(
        "context_tokens: 128000}]", "context_tokens: 128000}, {model: o, context_tokens: 9000}]"
    )
    with pytest.raises(ConfigError, match="several models have several prices"):
        loaded(tmp_path, text)


def test_the_unknown_is_dear_to_decisions_and_no_bill(tmp_path: Path) -> None:
    config = loaded(tmp_path, CONFIG.replace("{type: list}", "{type: unpriced}"))
    assert config.warnings == ()
    rates = cost.rates(price(config), None)
    assert isinstance(rates, cost.UnknownRates)
    forecast = cost.forecast(rates, PROFILE)
    assert forecast.prompt_nusd == forecast.completion_nusd == 100_000
    assert forecast.assumed
