"""A policy decides: filters -> predict -> hold against the SLO -> scorers -> picker. Pure, one page.

`decide` never changes the state it reads; what must change comes back as a `Delta`, and whoever owns the state
applies it before anything is awaited. The same request, snapshot, state, time and seed give the same decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.routing import exploration
from app.routing.exploration import Exploration
from app.routing.field import Field
from app.routing.plugins import HardFilter, Picker, Scorer, Seek, Turn
from app.routing.predictor import CostBasis, Forecast, costs_nusd, forecaster
from app.routing.slo import MOST_HARM, fitted, harm_allowed, remaining
from app.routing.state import RoutingState
from app.routing.types import NO_FACTS, BackendView, Candidate, Decision, Delta, Reservation, RouteRequest, Snapshot

NOTHING = Delta(None)
REFERENCE = forecaster("reference")

_made = tuple.__new__
"""A NamedTuple's own constructor takes twice as long."""


@dataclass(frozen=True, slots=True)
class WeightedScorer:
    """A scorer with the weight this policy gives it; weights of a policy add up to 1."""

    name: str
    score: Scorer
    weight: float


@dataclass(frozen=True, slots=True)
class Policy:
    """Named filters, weighted scorers and a picker, with the operator's margin and forecast.

    A `thorough` one always looks at all candidates.
    """

    name: str
    filters: tuple[HardFilter, ...]
    scorers: tuple[WeightedScorer, ...]
    picker: Picker
    slo_margin: float = 0.0
    most_harm: float = MOST_HARM
    forecast: Forecast = REFERENCE
    cost_basis: CostBasis = "reference"
    exploration: Exploration | None = None
    thorough: bool = False

    def decide(
        self,
        request: RouteRequest,
        snapshot: Snapshot,
        state: RoutingState,
        now_ns: int,
        seed: int,
        decision_id: str,
        *,
        thorough: bool = False,
    ) -> tuple[Decision, Delta]:
        """Choose a backend for `request`, and say what that changes.

        A picker that takes the cheapest need not know what the dearest would do: they are only named on the receipt,
        unless it is to be `thorough` or this is the decision in a hundred that explores.
        """
        kept, rejected = self._filter(request, snapshot, state, now_ns)
        if not kept:
            why = "no_candidates" if rejected else "unknown_model"
            head = (decision_id, request, self.name, snapshot.config_hash, seed)
            return Decision(*head, None, why, (), rejected), NOTHING
        seek: Seek | None = getattr(self.picker, "seek", None)
        unseen: tuple[str, ...] = ()
        turn = Turn(state, now_ns, seed, f"{self.name}:{request.model}")
        look = _Look(self, request, state, now_ns)
        if seek is None or thorough or self.thorough or len(kept) == 1 or self._explores(seed):
            candidates = look(kept)
        else:
            field = Field(kept, costs_nusd(request, kept, state, now_ns, self.cost_basis), look)
            seek(request, field, turn)
            candidates = field.looked
            if len(candidates) < len(kept):
                places = field.unseen()
                turn.next_nusd = field.costs_nusd[places[0]]
                unseen = tuple([kept[place].name for place in places])
        pick = self.picker(request, candidates, turn)
        propensity = 1.0
        if self.exploration is not None and pick.position is not None:
            pick, propensity = exploration.explored(self.exploration, request, candidates, turn, pick)
        chosen = None if pick.position is None else candidates[pick.position]
        decision = _made(
            Decision,
            (
                decision_id, request, self.name, snapshot.config_hash, seed, chosen, pick.reason, tuple(candidates),
                rejected, pick.margin, pick.retry_after_s if chosen is None else None, propensity, unseen,
            ),
        )  # fmt: skip
        return decision, Delta(None if chosen is None else reservation(request, chosen, seed), pick.sticky)

    def _filter(
        self, request: RouteRequest, snapshot: Snapshot, state: RoutingState, now_ns: int
    ) -> tuple[Sequence[BackendView], tuple[tuple[str, str], ...]]:
        views, gates = snapshot.views.get(request.model, ()), state.gates
        facts = snapshot.facts.get(request.model, NO_FACTS)
        asked = [each.reject for each in self.filters if each.concerns is None or each.concerns(request, facts)]
        if not asked and not gates:
            return views, ()
        kept: list[BackendView] = []
        rejected: list[tuple[str, str]] = []
        for view in views:
            if gates and (gate := gates.get(view.name)) is not None and now_ns < gate.until_ns:
                rejected.append((view.name, gate.reason))
                continue
            for reject in asked:
                reason = reject(request, view)
                if reason is not None:
                    rejected.append((view.name, reason))
                    break
            else:
                kept.append(view)
        return kept, tuple(rejected)

    def _explores(self, seed: int) -> bool:
        return self.exploration is not None and exploration.draws(self.exploration, seed)


class _Look:
    """How views become candidates for one request. (An object: a function within a function would be a cycle, and a
    twentieth of the time of a compiled replay went into collecting those.)"""

    __slots__ = ("_most_harm", "_now_ns", "_policy", "_request", "_slo", "_state")

    def __init__(self, policy: Policy, request: RouteRequest, state: RoutingState, now_ns: int) -> None:
        self._policy = policy
        self._request = request
        self._state = state
        self._now_ns = now_ns
        self._slo = remaining(request, now_ns)
        self._most_harm = harm_allowed(policy.most_harm, request, state)

    def __call__(self, views: Sequence[BackendView]) -> list[Candidate]:
        policy, state = self._policy, self._state
        predictions = policy.forecast(self._request, views, state, self._now_ns)
        candidates = fitted(views, predictions, state.loads, self._slo, policy.slo_margin, self._most_harm)
        if policy.scorers:
            return [self._scored(candidate) for candidate in candidates]
        return candidates

    def _scored(self, candidate: Candidate) -> Candidate:
        scores = tuple(
            [
                (scorer.name, scorer.weight * min(1.0, max(0.0, scorer.score(self._request, candidate))))
                for scorer in self._policy.scorers
            ]
        )
        return Candidate(*candidate[:-1], scores)


def reservation(request: RouteRequest, chosen: Candidate, ticket: int) -> Reservation:
    """The place that a chosen candidate's backend keeps for the request."""
    view, prediction, choices = chosen.view, chosen.prediction, request.choices
    most_blocks = 0
    if request.blocks:
        room = view.profile.kv_tokens or view.context_tokens
        most_blocks = max(1, room * len(request.blocks) // max(1, request.prompt_tokens))
    values = (
        view.name,
        choices,
        request.prompt_tokens - prediction.cached_tokens,
        # A pace that is not kept anyway must not bind whoever joins.
        request.slo.tpot_s if chosen.feasible else None,
        prediction.prompt_s,
        choices * request.longest_prompt_tokens + request.completion_tokens // 2,
        request.blocks if view.profile.prefix_cache else (),
        most_blocks,
        prediction.pace,
        ticket,
        prediction.warm_up_s,
    )
    return _made(Reservation, values)
