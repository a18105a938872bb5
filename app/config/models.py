"""The configuration, typed. Unknown keys are refused; modes are tagged unions, never a magic zero.

Every model here is frozen: a loaded configuration never changes, it is replaced as a whole.
Units stand in the names. Money arrives as decimal USD and is turned into integers by `app.metering.cost`.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from app.config.caching import REDIS_ALONE_URL, Cache, CacheRule, MemoryCache, redis_url
from app.config.deciding import DispatchConfig, PolicyConfig, RoutingConfig, SloConfig
from app.config.live import (
    AwsConfig,
    HeaderName,
    LocalServerConfig,
    MonitorConfig,
    TimeoutsConfig,
    service_url,
)
from app.config.section import Capabilities, Confidence, Name, PositiveInt, Ratio, Section, Usd


class ServerConfig(Section):
    """Where the gateway listens. The admin port needs a token on any address but loopback."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    admin_host: str = "127.0.0.1"
    admin_port: int = Field(default=8081, ge=0, le=65535)
    admin_token: str | None = Field(default=None, min_length=16, repr=False)
    body_limit_bytes: PositiveInt = 8 * 1024 * 1024
    drain_delay_s: float = Field(default=0.0, ge=0, le=3600)
    drain_timeout_s: float = Field(default=30.0, ge=0, le=86400)
    watch_config: bool = False


class ModelConfig(Section):
    """A public model name and what clients asking for it are promised. `vocabulary` counts its prompts' tokens; without
    one they are estimated from characters, at a ratio that is learned."""

    slo: Name = "interactive"
    policy: Name | None = None
    default_max_tokens: PositiveInt = 1024
    max_tokens_cap: PositiveInt | None = None
    reference_backend: Name | None = None
    aliases: tuple[Name, ...] = ()
    vocabulary: Literal["cl100k_base", "o200k_base"] | None = None
    cache: CacheRule = CacheRule()


class _Deployment(Section):
    """What every deployment has. `quality` is declared (0 to 1) and read by the scorer of that name."""

    model: Name
    quality: float = Field(default=1.0, ge=0, le=1)


class DeploymentConfig(_Deployment):
    """A model on a backend, at a precision, served by a software the chip's datasheet has constants for."""

    precision: Literal["bf16", "fp8", "int8", "fp4", "mxfp4"]
    kv_precision: Literal["bf16", "fp8", "int8"] | None = None
    context_tokens: PositiveInt | None = None
    software: Name | None = None


class TokenPricing(Section):
    """A price list in USD per million tokens. `cached` unset means cached tokens cost as prompt tokens do."""

    type: Literal["tokens"]
    usd_per_million_prompt: Usd
    usd_per_million_cached: Usd | None = None
    usd_per_million_completion: Usd
    usd_per_request: Usd = Decimal(0)
    source: str
    confidence: Confidence


class ChipHourPricing(Section):
    """Rented or owned silicon. `reference_utilisation` is the share of sequence slots occupied on which
    the routing forecast (not the bill) rests."""

    type: Literal["chip_hours"]
    usd_per_chip_hour: Usd
    reference_utilisation: Ratio = 0.5
    source: str
    confidence: Confidence


class ListPricing(Section):
    """The list price of a model, as the package `genai-prices` has it; figures given here win. `provider` is its name
    of who sells it (else found by the backend's url), `model` what it is called there (else `upstream_model`)."""

    type: Literal["list"]
    provider: Name | None = None
    model: str | None = None
    usd_per_million_prompt: Usd | None = None
    usd_per_million_cached: Usd | None = None
    usd_per_million_completion: Usd | None = None
    source: str = "genai-prices"
    confidence: Confidence = "secondary"


class UnpricedPricing(Section):
    """Nobody knows: bills are empty and counted, and decisions take it for dear."""

    type: Literal["unpriced"]
    source: str = "unknown"
    confidence: Confidence = "not public"


Pricing = Annotated[TokenPricing | ChipHourPricing | ListPricing | UnpricedPricing, Field(discriminator="type")]


class EmulationConfig(Section):
    """How an emulated engine behaves beyond its physics; sigmas of the lognormal factor on step times."""

    seed: int = 0
    prefill_noise: float = Field(default=0.08, ge=0, le=1)
    decode_noise: float = Field(default=0.05, ge=0, le=1)
    max_sequences: PositiveInt | None = None
    max_waiting: Annotated[int, Field(ge=0)] = 1024
    prefix_cache: bool = True


class ColdStartConfig(Section):
    """A backend that is scaled to zero while nobody needs it: asked while cold it takes `warm_up_s` before it begins to
    work, and it is cold again when nobody has used it for `idle_after_s` (unset = it stays warm)."""

    warm_up_s: float = Field(gt=0, le=86400)
    idle_after_s: float | None = Field(default=None, gt=0, le=31_536_000)
    starts: Literal["cold", "warm"] = "cold"


class _Backend(Section):
    """What every backend has."""

    name: Name
    pricing: Pricing
    drained: bool = False
    max_in_flight: PositiveInt | None = None
    cold_start: ColdStartConfig | None = None


class EmulatedBackendConfig(_Backend):
    """One emulated server: a chip (a file in config/substrates), how many of them, what they serve, at what price."""

    mode: Literal["emulated"] = "emulated"
    kind: Literal["maia", "groq", "tpu", "trainium", "gpu", "cerebras"]
    chip: Name
    chips: PositiveInt
    deployments: Annotated[tuple[DeploymentConfig, ...], Field(min_length=1)]
    emulation: EmulationConfig = EmulationConfig()


class LiveDeploymentConfig(_Deployment):
    """A model on a real service, which may call it otherwise (`upstream_model`)."""

    upstream_model: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    precision: Literal["bf16", "fp8", "int8", "fp4", "mxfp4"] | None = None
    kv_precision: Literal["bf16", "fp8", "int8"] | None = None
    context_tokens: PositiveInt | None = None
    capabilities: Capabilities = frozenset({"n"})


class ProfileConfig(Section):
    """What latency to expect of a service before it has been observed; the router corrects it by what it sees."""

    ttft_ms: float = Field(gt=0)
    ttft_ms_per_1k_prompt_tokens: float = Field(default=0.0, ge=0)
    tpot_ms: float = Field(gt=0)
    tpot_ms_per_sequence: float = Field(default=0.0, ge=0)
    max_sequences: PositiveInt = 256
    network_ms: float = Field(default=0.0, ge=0)


class LiveBackendConfig(_Backend):
    """One real service. `url` is what its paths follow; without a path, the dialect's usual one is added. `dialect` is
    how it is spoken to, the kind's first if absent; `api_version` goes to dialects that have one. A `kind: local`
    one has no `url` but may have a `server`."""

    mode: Literal["live"]
    kind: Literal["maia", "groq", "tpu", "trainium", "gpu", "cerebras", "hosted", "local"]
    url: str | None = None
    api_key: Annotated[str, Field(min_length=1, pattern=r"^[\x21-\x7e]+$")] | None = Field(default=None, repr=False)
    dialect: str | None = None
    api_version: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")] | None = None
    aws: AwsConfig | None = None
    chip: Name | None = None
    chips: PositiveInt | None = None
    profile: ProfileConfig | None = None
    deployments: Annotated[tuple[LiveDeploymentConfig, ...], Field(min_length=1)]
    timeouts: TimeoutsConfig = TimeoutsConfig()
    max_connections: PositiveInt = 1024
    monitor: MonitorConfig | None = None
    server: LocalServerConfig | None = None
    forward_headers: tuple[HeaderName, ...] = ()

    @field_validator("url")
    @classmethod
    def _usable(cls, url: str | None) -> str | None:
        return None if url is None else service_url(url)


def _mode(backend: object) -> str:
    """The tag of a backend: `emulated` where none is given."""
    given = backend.get("mode", "emulated") if isinstance(backend, dict) else getattr(backend, "mode", "emulated")
    return given if isinstance(given, str) else ""


BackendConfig = Annotated[
    Annotated[EmulatedBackendConfig, Tag("emulated")] | Annotated[LiveBackendConfig, Tag("live")],
    Discriminator(
        _mode,
        custom_error_type="unknown_mode",
        custom_error_message="there is no mode like that (there are: emulated, live)",
    ),
]


Weight = Annotated[float, Field(ge=0, le=1e9)]
AliasTarget = Annotated[
    Annotated[Name, Tag("model")] | Annotated[dict[Name, Weight], Field(min_length=1), Tag("split")],
    Discriminator(lambda target: "split" if isinstance(target, dict) else "model"),
]
"""A model, or models with the weights that a split of requests between them follows."""


class SharingOff(Section):
    """This process knows of no other."""

    type: Literal["off"] = "off"


class RedisSharing(Section):
    """What several gateway processes tell one another (docs/sharing.md). Redis gone never fails a request."""

    type: Literal["redis"]
    url: str = Field(pattern=REDIS_ALONE_URL, repr=False)
    interval_s: float = Field(default=0.1, ge=0.01, le=10)
    row_ttl_s: float = Field(default=3.0, ge=0.1, le=60)
    learned_interval_s: float = Field(default=5.0, ge=0.1, le=600)
    timeout_ms: float = Field(default=50.0, gt=0, le=1000)
    key_prefix: Name = "turnout"

    @field_validator("url")
    @classmethod
    def _usable(cls, url: str) -> str:
        return redis_url(url)

    @model_validator(mode="after")
    def _rows_outlive_a_round(self) -> Self:
        if self.row_ttl_s < 3 * self.interval_s:
            raise ValueError("row_ttl_s must be at least 3 x interval_s, or one late round makes a process vanish")
        return self


Sharing = Annotated[SharingOff | RedisSharing, Field(discriminator="type")]


class LedgerConfig(Section):
    """Where each request's cost is kept for good. `path` is relative to the working directory."""

    path: Path = Path("turnout-ledger.sqlite3")
    flush_interval_s: float = Field(default=1.0, gt=0, le=60)
    batch_rows: PositiveInt = 500
    queue_rows: PositiveInt = 100_000


class Config(Section):
    """The whole of config/turnout.yaml, policies merged in. `extends` names a file (or `shipped`) whose sections
    hold where this one gives none; it has been applied, and is None, once loaded."""

    version: Literal[1]
    extends: str | None = None
    server: ServerConfig = ServerConfig()
    models: Annotated[dict[Name, ModelConfig], Field(min_length=1)]
    aliases: dict[Name, AliasTarget] = Field(default_factory=dict)
    backends: Annotated[tuple[BackendConfig, ...], Field(min_length=1)]
    slo: dict[Name, SloConfig]
    policies: dict[Name, PolicyConfig] = Field(default_factory=dict)
    routing: RoutingConfig = RoutingConfig()
    dispatch: DispatchConfig = DispatchConfig()
    cache: Cache = MemoryCache(type="memory")
    sharing: Sharing = SharingOff()
    ledger: LedgerConfig = LedgerConfig()
