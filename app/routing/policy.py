"""A policy decides: filters -> predict -> hold against the SLO -> scorers -> picker. Pure, one page.

`decide` never changes the state it reads; what must change comes back as a `Delta`, and whoever owns the state
applies it before anything is awaited. The same request, snapshot, state and seed give the same decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.routing.plugins import Filter, Pick, Picker, Scorer
from app.routing.predictor import CostBasis, Forecast, forecaster
from app.routing.slo import fit
from app.routing.state import RoutingState
from app.routing.types import (
    BackendView,
    Candidate,
    Decision,
    Delta,
    Reservation,
    RouteRequest,
    Snapshot,
)

NOTHING = Delta(None)


@dataclass(frozen=True, slots=True)
class WeightedScorer:
    """A scorer with the weight this policy gives it; weights of a policy add up to 1."""

    name: str
    score: Scorer
    weight: float


@dataclass(frozen=True, slots=True)
class Policy:
    """Named filters, weighted scorers and a picker, with the operator's margin and cost basis."""

    name: str
    filters: tuple[tuple[str, Filter], ...]
    scorers: tuple[WeightedScorer, ...]
    picker: Picker
    slo_margin: float = 0.05
    cost_basis: CostBasis = "reference"
    forecast: Forecast | None = None

    def decide(
        self, request: RouteRequest, snapshot: Snapshot, state: RoutingState, now_ns: int, seed: int, decision_id: str
    ) -> tuple[Decision, Delta]:
        """Choose a backend for `request`, and say what that changes."""
        kept, rejected = self._filter(request, snapshot.views.get(request.model, ()), state, now_ns)
        if not kept:
            reason = "no_candidates" if rejected else "unknown_model"
            return self._decision(decision_id, request, snapshot, seed, None, reason, (), rejected), NOTHING
        candidates = self._candidates(request, kept, state, now_ns)
        cursor_name = f"{self.name}:{request.model}"
        pick: Pick = self.picker(request, candidates, seed, state.cursors.get(cursor_name, 0))
        chosen = candidates[pick.position]
        decision = self._decision(
            decision_id,
            request,
            snapshot,
            seed,
            chosen,
            pick.reason,
            tuple(candidates),
            rejected,
            pick.margin,
        )
        # A pace that is not kept anyway must not bind whoever joins.
        promised_s = request.slo.tpot_s if chosen.feasible else None
        reservation = Reservation(chosen.view.name, request.choices, request.prompt_tokens, promised_s)
        cursor = None if pick.cursor is None else (cursor_name, pick.cursor)
        return decision, Delta(reservation, cursor)

    def _filter(
        self, request: RouteRequest, views: Sequence[BackendView], state: RoutingState, now_ns: int
    ) -> tuple[list[BackendView], tuple[tuple[str, str], ...]]:
        kept: list[BackendView] = []
        rejected: list[tuple[str, str]] = []
        gates = state.gates
        for view in views:
            if gates and (gate := gates.get(view.name)) is not None and now_ns < gate.until_ns:
                rejected.append((view.name, gate.reason))
                continue
            for _, reject in self.filters:
                reason = reject(request, view)
                if reason is not None:
                    rejected.append((view.name, reason))
                    break
            else:
                kept.append(view)
        return kept, tuple(rejected)

    def _candidates(
        self, request: RouteRequest, views: list[BackendView], state: RoutingState, now_ns: int
    ) -> list[Candidate]:
        slo, margin, loads = request.slo, self.slo_margin, state.loads
        forecast = self.forecast or forecaster(self.cost_basis)
        candidates = []
        for view, prediction in zip(views, forecast(request, views, state, now_ns), strict=True):
            load = loads.get(view.name)
            resident_slo_s, in_flight = (None, 0) if load is None else (load.tightest_tpot_slo_s, load.sequences)
            feasible, violation, slack, why_not = fit(prediction, slo, resident_slo_s, margin)
            candidates.append(Candidate(view, prediction, in_flight, feasible, violation, slack, why_not))
        if self.scorers:
            return [self._scored(request, candidate) for candidate in candidates]
        return candidates

    def _scored(self, request: RouteRequest, candidate: Candidate) -> Candidate:
        scores = tuple(
            [
                (scorer.name, scorer.weight * min(1.0, max(0.0, scorer.score(request, candidate))))
                for scorer in self.scorers
            ]
        )
        return Candidate(*candidate[:-1], scores)

    def _decision(
        self,
        decision_id: str,
        request: RouteRequest,
        snapshot: Snapshot,
        seed: int,
        chosen: Candidate | None,
        reason: str,
        candidates: tuple[Candidate, ...],
        rejected: tuple[tuple[str, str], ...],
        margin: float = 0.0,
    ) -> Decision:
        return Decision(
            decision_id,
            request,
            self.name,
            snapshot.config_hash,
            seed,
            chosen,
            reason,
            candidates,
            rejected,
            margin,
        )
