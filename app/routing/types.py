"""Values the decision is made from and what it yields. Pure: no clock, no I/O, no third-party import.

Times are float seconds, costs float nano-USD (a forecast; bills are integers and made elsewhere).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple
from zlib import crc32

from app.routing.reading import Pace
from backends.types import REFERENCE_CONTEXT_TOKENS, Capability, ColdStart, LatencyProfile, PrefillMode


class Slo(NamedTuple):
    """What this one request was promised; None = not promised."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None


SEVERAL: frozenset[Capability] = frozenset({"n"})
"""What a request for several choices needs."""

COMPLETIONS: frozenset[Capability] = frozenset({"completions"})
"""What a request for a text completion needs: not every service has an address for them."""


class RouteRequest(NamedTuple):
    """What the decision may know of a request.

    `prompt_tokens` is an estimate over all prompts, `longest_prompt_tokens` of the longest; `completion_tokens` is the
    expected answer length (all choices), `completion_tokens_q75` what three in four do not exceed,
    `max_completion_tokens` the most it can become. `max_cost_nusd` None = no
    ceiling. Time since `arrived_ns` has been taken from the promise already (None = just now). Of negative `priority` a
    request may be shed; `may_hold` says whether the decision may be to wait. `blocks` are the chained hashes of the
    prompt's whole blocks, `session` names a conversation, `alias` is what the model was asked for as, if not by name.
    """

    model: str
    policy: str
    prompt_tokens: int
    longest_prompt_tokens: int
    completion_tokens: int
    max_completion_tokens: int
    slo: Slo
    choices: int = 1
    capabilities: frozenset[Capability] = frozenset()
    max_cost_nusd: float | None = None
    exclude: frozenset[str] = frozenset()
    slo_class: str = "interactive"
    priority: int = 0
    arrived_ns: int | None = None
    may_hold: bool = False
    blocks: tuple[int, ...] = ()
    session: str | None = None
    completion_tokens_q75: int = 0
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class CostForecast:
    """What tokens are expected to cost here: nano-USD per token by kind, plus a fee per request.

    `marginal_*` is the cost of adding one more sequence to the engine as it is now; for token price
    lists both bases are the same. `cached_nusd` is for prompt tokens found in a prefix cache. `assumed` marks prices no
    public source states.
    """

    prompt_nusd: float
    completion_nusd: float
    request_nusd: float = 0.0
    cached_nusd: float = 0.0
    marginal_prompt_nusd: float = 0.0
    marginal_completion_nusd: float = 0.0
    assumed: bool = False


class Terms(NamedTuple):
    """What a backend's latency is made of: seconds to the first token of an empty prompt, seconds per prompt token (and
    per pair of them past 2,048), and of a decode step `base + per_sequence n + per_context_token (tokens in flight)`;
    how many sequences and tokens there is room for; how prompts are read, how many tokens a step, how many steps late,
    and whether they are kept."""

    base_ttft_s: float
    network_s: float
    prompt_token_s: float
    prompt_pair_s: float
    decode_base_s: float
    decode_sequence_s: float
    decode_context_token_s: float
    max_sequences: int
    kv_tokens: float
    prefill: PrefillMode
    step_tokens: float
    lag_steps: int
    prefix_cache: bool


class Prices(NamedTuple):
    """Nano-USD per request and per token: read, found in the prefix cache, answered."""

    request_nusd: float
    prompt_nusd: float
    cached_nusd: float
    completion_nusd: float


class EnergyForecast(NamedTuple):
    """Joules per token, estimated."""

    prompt_j: float
    completion_j: float


@dataclass(frozen=True, slots=True)
class BackendView:
    """A deployment as the router sees it: fixed facts only; load and corrections live in `RoutingState`.

    `quality` is declared, from 0 to 1: what a lower precision costs in answers, say. `key` names the deployment among
    all, `salt` is what it draws lots with; `terms` and `prices` (on the reference basis, on the marginal one) are
    figures of the profile and the cost as the predictor wants them: reading them one by one is a fifth of a decision.
    """

    name: str
    substrate: str
    model: str
    context_tokens: int
    capabilities: frozenset[Capability]
    profile: LatencyProfile
    cost: CostForecast
    drained: bool = False
    calibrated: bool = False
    energy: EnergyForecast | None = None
    quality: float = 1.0
    cold_start: ColdStart | None = None
    key: str = field(init=False)
    terms: Terms = field(init=False)
    prices: tuple[Prices, Prices] = field(init=False)
    salt: int = field(init=False)

    def __post_init__(self) -> None:
        profile, cost = self.profile, self.cost
        object.__setattr__(self, "key", f"{self.name} {self.model}")
        reference = Prices(cost.request_nusd, cost.prompt_nusd, cost.cached_nusd, cost.completion_nusd)
        marginal = reference._replace(
            prompt_nusd=cost.marginal_prompt_nusd, completion_nusd=cost.marginal_completion_nusd
        )
        object.__setattr__(self, "prices", (reference, marginal))
        object.__setattr__(self, "salt", crc32(self.name.encode()))
        object.__setattr__(
            self,
            "terms",
            Terms(
                profile.network_s + profile.overhead_s,
                profile.network_s,
                profile.prefill_s_per_token,
                profile.prefill_s_per_token_pair,
                profile.decode_base_s,
                profile.decode_s_per_sequence - profile.decode_s_per_context_token * REFERENCE_CONTEXT_TOKENS,
                profile.decode_s_per_context_token,
                profile.max_sequences,
                inf if profile.kv_tokens is None else profile.kv_tokens,
                profile.prefill,
                inf if profile.step_tokens is None else profile.step_tokens,
                profile.lag_steps,
                profile.prefix_cache,
            ),
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything fixed that a decision may consult. Views are grouped by model, in configuration order."""

    config_hash: str
    views: Mapping[str, tuple[BackendView, ...]]
    facts: Mapping[str, Facts] = field(init=False)

    def __post_init__(self) -> None:
        facts = {
            model: Facts(min((view.context_tokens for view in views), default=0), any(view.drained for view in views))
            for model, views in self.views.items()
        }
        object.__setattr__(self, "facts", facts)


class Facts(NamedTuple):
    """What is true of all backends of a model, so that a filter need not ask each."""

    shortest_context_tokens: int
    any_drained: bool


NO_FACTS = Facts(0, any_drained=False)


class Prediction(NamedTuple):
    """Expected latency and cost of one candidate. `*_q90_s` is the 0.9 quantile; of TPOT the SLO is held against
    `pace_q90_s`, the one beside as much reading of prompts as of late (what comes in later must not do harm);
    `steps` is how many tokens follow the first in each choice; `prior_*` is the physics before corrections,
    `*_stratum` what they are learned under, `cached_tokens` how much of the prompt need not be read and `prompt_s` how
    long the rest keeps the engine reading; `pace` is how it reads; a step without prompts takes `decode_s`. `slowness`
    and `decode_slowness` are the stretch of the profile's seconds that is in the prior already. `harm` is how many of
    those there are expected to miss their pace because this prompt is read beside them. `warm_up_s` of the TTFT (and of
    its quantile, not of `wait_s` or the prior) is what is left of the backend's warming up."""

    ttft_s: float
    ttft_q90_s: float
    tpot_s: float
    tpot_q90_s: float
    pace_q90_s: float
    steps: float
    wait_s: float
    cost_nusd: float
    prior_ttft_s: float
    prior_tpot_s: float
    ttft_stratum: int = 0
    tpot_stratum: int = 0
    cached_tokens: int = 0
    prompt_s: float = 0.0
    pace: Pace = Pace(0.0, 0.0, inf, 0)
    slowness: float = 1.0
    decode_s: float = 0.0
    decode_slowness: float = 1.0
    harm: float = 0.0
    warm_up_s: float = 0.0

    @property
    def e2e_s(self) -> float:
        return self.ttft_s + self.steps * self.tpot_s

    @property
    def e2e_q90_s(self) -> float:
        return self.ttft_q90_s + self.steps * self.tpot_q90_s


class Candidate(NamedTuple):
    """A backend that passed the hard filters, with what is predicted of it.

    A tuple because a decision makes one for every backend: building a frozen dataclass of this size
    takes four times as long.

    `violation` is 0 when every promise is kept with the margin, else the weighted relative excess;
    `slack` is the smallest relative room left (negative when violated).
    """

    view: BackendView
    prediction: Prediction
    in_flight: int
    feasible: bool
    violation: float
    slack: float
    why_not: str = ""
    scores: tuple[tuple[str, float], ...] = ()


class Decision(NamedTuple):
    """The receipt: who was considered, what was expected of each, who won and why.

    `chosen` is None when nobody takes the request now; then `reason` says why: `unknown_model` and `no_candidates` for
    good, `shed` (turned away; `retry_after_s` says when to come back), `hold` (wait in the gateway, decide again),
    `wait` (the same, for somebody cheaper, for `retry_after_s`).
    `unseen` are backends that were not looked at, since they could not have won: dearer, or out of the draw.
    """

    id: str
    request: RouteRequest
    policy: str
    config_hash: str
    seed: int
    chosen: Candidate | None
    reason: str
    candidates: tuple[Candidate, ...] = ()
    rejected: tuple[tuple[str, str], ...] = ()
    margin: float = 0.0
    retry_after_s: float | None = None
    propensity: float = 1.0
    unseen: tuple[str, ...] = ()


class Reservation(NamedTuple):
    """Load that a decision adds to a backend, counted before the first `await` and given back at the end.

    `prompt_tokens` are those to be read, which is expected to take `prompt_s`; `resident_tokens` the context it holds
    (half the answer counted). Of `blocks` (the prompt's, by hash) the backend keeps at most `most_blocks`. `pace`
    is how it reads; `ticket` tells the places of a backend apart. `warm_up_s` is what is left of its warming up.
    """

    backend: str
    sequences: int
    prompt_tokens: int
    tpot_slo_s: float | None
    prompt_s: float = 0.0
    resident_tokens: int = 0
    blocks: tuple[int, ...] = ()
    most_blocks: int = 0
    pace: Pace = Pace(0.0, 0.0, inf, 0)
    ticket: int = 0
    warm_up_s: float = 0.0


Sticky = tuple[tuple[str, float | str], ...]
"""Notes to keep in `RoutingState.sticky`."""


class Delta(NamedTuple):
    """What a decision changes in the routing state."""

    reservation: Reservation | None
    sticky: Sticky = ()


class Outcome(NamedTuple):
    """How an attempt went, for learning. None = not observed; a cancelled attempt is censored.

    `chosen` is the candidate as it was at dispatch: learning compares what was predicted then with what came.
    `prompt_tokens` contain `cached_tokens`; `completion_tokens` are per choice. Other prompts took the backend
    `reading_s` (as predicted) between its first token and its last.
    """

    request: RouteRequest
    chosen: Candidate
    ttft_s: float | None = None
    tpot_s: float | None = None
    prompt_chars: int = 0
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    reading_s: float = 0.0
