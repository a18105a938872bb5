"""The part of the configuration that decisions and dispatch rest on: promises, policies, retries, the queue."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from app.config.section import Name, PositiveInt, Ratio, Section


class SloConfig(Section):
    """A latency promise. Unset means not promised; the TTFT allowance grows with prompts beyond 2,000 tokens."""

    ttft_ms: float | None = Field(default=None, ge=0.001)
    ttft_ms_per_1k_prompt_tokens_beyond_2k: float = Field(default=0.0, ge=0)
    tpot_ms: float | None = Field(default=None, ge=0.001)
    e2e_ms: float | None = Field(default=None, ge=0.001)


class ScorerRef(Section):
    """A scorer by its module's name under app/routing/scorers, with its weight in this policy. Parameters are
    reference points of its scale (`ref_s`, `ref_usd`), so none may be zero."""

    use: Name
    weight: float = Field(gt=0, le=1e6)
    params: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)


class PickerRef(Section):
    """A picker by its module's name under app/routing/pickers."""

    use: Name
    params: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)


class PolicyConfig(Section):
    """filters -> scorers -> picker. The hard filters always run; a policy chooses scorers and the picker."""

    description: str = ""
    scorers: tuple[ScorerRef, ...] = ()
    picker: PickerRef


class ExplorationConfig(Section):
    """Asking a backend of which little is known, now and then. `epsilon` 0 = never."""

    epsilon: float = Field(default=0.01, ge=0, le=0.2)
    usd_per_minute: float = Field(default=0.01, ge=0)
    stale_s: float = Field(default=60.0, gt=0)


class RoutingConfig(Section):
    """Which policy decides by default and how cautious predictions are taken."""

    default_policy: Name = "cheapest-slo"
    cost_basis: Literal["reference", "marginal"] = "reference"
    slo_margin: float = Field(default=0.0, ge=0, lt=1)
    most_harm: float = Field(default=0.03, ge=0, le=1)
    seed: int = 0
    max_attempts: int = Field(default=2, ge=1, le=10)
    exploration: ExplorationConfig = ExplorationConfig()
    receipts_kept: Annotated[int, Field(ge=1, le=1_000_000)] = 1000


class RetryConfig(Section):
    """How many retries all traffic may cause: `share` of requests, and `at_least_per_10s` however few those are."""

    share: Ratio = 0.1
    at_least_per_10s: float = Field(default=20.0, ge=0, le=1000)


class GuardConfig(Section):
    """When a backend that says nothing is left: after `times_q90` times the predicted 0.9 quantile, at least
    `at_least_s`, if somebody else takes the request; a stream after `at_most_s` in any case."""

    times_q90: float = Field(default=5.0, ge=1, le=100)
    at_least_s: float = Field(default=2.0, gt=0, le=3600)
    at_most_s: float = Field(default=300.0, gt=0, le=86400)


class NoHedge(Section):
    """One backend is asked at a time."""

    type: Literal["none"]


class DelayedHedge(Section):
    """A second backend is asked when the first has said nothing for `times_q90` times its predicted 0.9 quantile; for
    at most `share` of requests. Both are billed."""

    type: Literal["delayed"]
    times_q90: float = Field(default=1.1, ge=0.1, le=100)
    at_least_s: float = Field(default=0.05, gt=0, le=3600)
    share: Ratio = 0.05


class QueueConfig(Section):
    """Requests that wait in the gateway when policy holds them: in all, per tenant, and for how long at most.
    `re_decisions` are made at most whenever a backend has room again."""

    max_waiting: PositiveInt = 1000
    max_waiting_per_tenant: PositiveInt = 1000
    max_wait_s: float = Field(default=30.0, gt=0, le=3600)
    re_decisions: Annotated[int, Field(ge=1, le=100)] = 4


class DispatchConfig(Section):
    """How requests are retried, hedged and held."""

    retry: RetryConfig = RetryConfig()
    guard: GuardConfig = GuardConfig()
    hedge: Annotated[NoHedge | DelayedHedge, Field(discriminator="type")] = NoHedge(type="none")
    queue: QueueConfig = QueueConfig()
