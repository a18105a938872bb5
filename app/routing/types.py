"""Values the decision is made from and what it yields. Pure: no clock, no I/O, no third-party import.

Times are float seconds, costs float nano-USD (a forecast; bills are integers and made elsewhere).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from backends.types import Capability, LatencyProfile


class Slo(NamedTuple):
    """What this one request was promised; None = not promised."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None


class RouteRequest(NamedTuple):
    """What the decision may know of a request.

    `prompt_tokens` is an estimate over all prompts, `longest_prompt_tokens` of the longest; `completion_tokens` is the
    expected answer length (all choices), `max_completion_tokens` the most it can become. `max_cost_nusd` None = no
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
    may_hold: bool = True
    blocks: tuple[int, ...] = ()
    session: str | None = None
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class CostForecast:
    """What tokens are expected to cost here: nano-USD per token by kind, plus a fee per request.

    `marginal_*` is the cost of adding one more sequence to the engine as it is now; for token price
    lists both bases are the same. `assumed` marks prices no public source states.
    """

    prompt_nusd: float
    completion_nusd: float
    request_nusd: float = 0.0
    marginal_prompt_nusd: float = 0.0
    marginal_completion_nusd: float = 0.0
    assumed: bool = False


@dataclass(frozen=True, slots=True)
class BackendView:
    """A deployment as the router sees it: fixed facts only; load and corrections live in `RoutingState`."""

    name: str
    substrate: str
    model: str
    context_tokens: int
    capabilities: frozenset[Capability]
    profile: LatencyProfile
    cost: CostForecast
    drained: bool = False
    calibrated: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything fixed that a decision may consult. Views are grouped by model, in configuration order."""

    config_hash: str
    views: Mapping[str, tuple[BackendView, ...]]


class Prediction(NamedTuple):
    """Expected latency and cost of one candidate. `*_q90_s` is the 0.9 quantile the SLO is held against;
    `steps` is how many tokens follow the first in each choice; `prior_*` is the physics before corrections."""

    ttft_s: float
    ttft_q90_s: float
    tpot_s: float
    tpot_q90_s: float
    steps: float
    wait_s: float
    cost_nusd: float
    prior_ttft_s: float
    prior_tpot_s: float

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
    good, `shed` (turned away; `retry_after_s` says when to come back), `hold` (wait in the gateway, decide again).
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


class Reservation(NamedTuple):
    """Load that a decision adds to a backend, counted before the first `await` and given back at the end."""

    backend: str
    sequences: int
    prompt_tokens: int
    tpot_slo_s: float | None


class Delta(NamedTuple):
    """What a decision changes in the routing state; `cursor` is (name, position) for policies that take turns."""

    reservation: Reservation | None
    cursor: tuple[str, int] | None = None


class Outcome(NamedTuple):
    """How an attempt went, for learning. None = not observed; a cancelled attempt is censored.

    `chosen` is the candidate as it was at dispatch: learning compares what was predicted then with what came.
    `prompt_tokens` contain `cached_tokens`; `completion_tokens` are per choice.
    """

    request: RouteRequest
    chosen: Candidate
    ttft_s: float | None = None
    tpot_s: float | None = None
    prompt_chars: int = 0
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
