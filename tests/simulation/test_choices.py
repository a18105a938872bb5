"""The shipped fleet, decided on over a sweep of promises, sizes and loads: who wins, and for which stated reason.

Nothing here is tuned: prices and timing are the shipped ones, and each winner must be the cheapest that keeps its
promise, by the receipt's own numbers.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest

from app.config.load import load, to_spec
from app.metering import cost
from app.routing.policy import Policy
from app.routing.state import RoutingState
from app.routing.types import BackendView, Decision, Reservation, RouteRequest, Slo, Snapshot
from backends.clock import VirtualClock
from backends.registry import build
from tests.builders import make_policy

MODEL = "llama-3.3-70b"
LOADED = load()


@pytest.fixture(scope="module")
def views() -> dict[str, tuple[BackendView, ...]]:
    listed: dict[str, list[BackendView]] = defaultdict(list)
    for each in LOADED.config.backends:
        info = build(to_spec(each), LOADED.sheets, VirtualClock()).info
        for model, deployment in info.deployments.items():
            listed[model].append(
                BackendView(
                    each.name,
                    info.substrate,
                    model,
                    deployment.context_tokens,
                    deployment.capabilities,
                    deployment.profile,
                    cost.forecast(cost.rates(each.pricing, each.chips), deployment.profile),
                )
            )
    return {model: tuple(found) for model, found in listed.items()}


def ask(
    views: dict[str, tuple[BackendView, ...]], state: RoutingState, slo: Slo, prompt: int, answer: int,
    model: str = MODEL, policy: Policy | None = None, seed: int = 0,
) -> Decision:  # fmt: skip
    request = RouteRequest(model, "cheapest-slo", prompt, prompt, answer, answer, slo, priority=1)
    return (policy or make_policy()).decide(request, Snapshot("c", views), state, 0, seed, "d")[0]


def busy(views: dict[str, tuple[BackendView, ...]], names: dict[str, int]) -> RoutingState:
    state = RoutingState()
    for name, sequences in names.items():
        state.reserve(Reservation(name, sequences, sequences * 200, None), 0)
    return state


def test_at_least_four_substrates_win_each_for_a_stated_reason(
    views: dict[str, tuple[BackendView, ...]],
) -> None:
    winners: dict[str, set[str]] = defaultdict(set)
    for model in views:
        for load_factor in (0.0, 0.5, 0.9, 1.2):
            for tpot_ms in (1.7, 4, 6, 12, 25, 50, 200):
                for ttft_s in (0.03, 0.3, 1.0, 10.0):
                    for prompt, answer in ((50, 400), (1000, 200), (6000, 30), (30_000, 100)):
                        fullest = max(views[model], key=lambda view: view.profile.max_sequences)
                        state = RoutingState()
                        # Load follows what the policy itself prefers: the cheapest fill up first.
                        for view in sorted(views[model], key=lambda view: view.cost.completion_nusd)[:3]:
                            sequences = round(load_factor * view.profile.max_sequences)
                            state.reserve(Reservation(view.name, sequences, sequences * 50, None), 0)
                        decision = ask(views, state, Slo(ttft_s, tpot_ms / 1000), prompt, answer, model)
                        assert decision.chosen is not None
                        assert fullest.model == model
                        winners[decision.chosen.view.substrate].add(decision.reason)
                        feasible = [each for each in decision.candidates if each.feasible]
                        if feasible:
                            cheapest = min(each.prediction.cost_nusd for each in feasible)
                            assert decision.chosen.prediction.cost_nusd <= cheapest * 1.03
                        for each in decision.candidates:
                            assert each.feasible or each.why_not
    assert len(winners) >= 4, dict(winners)
    assert all(winners.values())


def test_a_tight_pace_leaves_only_sram(views: dict[str, tuple[BackendView, ...]]) -> None:
    decision = ask(views, RoutingState(), Slo(tpot_s=0.0017), 1000, 200)
    assert decision.chosen is not None
    assert decision.chosen.view.substrate == "cerebras"
    assert [candidate.feasible for candidate in decision.candidates].count(True) == 1
    assert decision.unseen == ("trainium-70b",)
    assert {c.why_not for c in decision.candidates if not c.feasible} == {"tpot"}


def test_as_the_cheapest_fills_up_the_next_takes_over(views: dict[str, tuple[BackendView, ...]]) -> None:
    promise = Slo(1.0, 0.05)
    first = ask(views, RoutingState(), promise, 1000, 200)
    assert first.chosen is not None
    full = first.chosen.view
    state = busy(views, {full.name: 3 * full.profile.max_sequences})
    second = ask(views, state, promise, 1000, 200)
    assert second.chosen is not None
    assert second.chosen.view.name != full.name
    lost = next(c for c in second.candidates if c.view.name == full.name)
    assert not lost.feasible
    assert "ttft" in lost.why_not


def test_one_price_change_flips_a_named_decision(views: dict[str, tuple[BackendView, ...]]) -> None:
    """1,000 in, 200 out, interactive: MI300X at its assumed $3.99 wins; at $6 an hour Maia does, at $6.69."""

    def winner(mi300x_usd: float) -> str:
        def repriced(view: BackendView) -> BackendView:
            if view.name != "mi300x-70b":
                return view
            factor = mi300x_usd / 3.99
            price = replace(
                view.cost,
                prompt_nusd=view.cost.prompt_nusd * factor,
                completion_nusd=view.cost.completion_nusd * factor,
            )
            return replace(view, cost=price)

        changed = {model: tuple(map(repriced, found)) for model, found in views.items()}
        decision = ask(changed, RoutingState(), Slo(1.0, 0.05), 1000, 200)
        assert decision.chosen is not None
        return decision.chosen.view.name

    assert winner(3.99) == "mi300x-70b"
    assert winner(6.0) == "maia-70b"
