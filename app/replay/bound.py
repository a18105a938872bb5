"""What a trace costs at least if every promise that can be kept is kept: a bound, not a plan.

Each request goes to the cheapest backend that would keep its promises if nobody else were there, with every block of
its prompt that came up earlier in the trace found in the prefix cache, and its true length. Capacity, queues and noise
are left out, so that no policy which keeps all those promises can be cheaper on the forecast basis. A policy that
drops the dear requests can: the bound is one on serving everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from app.call import NO_OPTIONS
from app.metering.cost import MILLION, TokenRates
from app.planning import promise
from app.replay.formats import MOONCAKE_BLOCK_TOKENS, Arrival
from app.replay.stage import Server, Stage
from app.routing.types import BackendView, Slo
from backends.emulator.fork import Fate, forecast


class LowerBound(NamedTuple):
    """USD per 1,000 requests that can be served well at all, and how many cannot even on idle silicon."""

    usd_per_1k_good: float | None
    impossible: int


def lower_bound(stage: Stage, arrivals: Sequence[Arrival], model: str) -> LowerBound:
    """The bound for these arrivals on a fresh stage; `model` is asked for where the trace does not name one."""
    planner, snapshot = stage.planner, stage.fleet.snapshot
    seen: set[int] = set()
    total_nusd, served, impossible = 0.0, 0, 0
    for arrival in arrivals:
        name = arrival.model if arrival.model in planner.models else model
        assert name is not None
        config = planner.models[name]
        slo_class = arrival.slo_class if arrival.slo_class in planner.slo_classes else config.slo
        assert slo_class is not None
        slo = promise(planner.slo_classes[slo_class], NO_OPTIONS, arrival.prompt_tokens)
        known = 0
        for block in arrival.blocks:
            if block not in seen:
                break
            known += MOONCAKE_BLOCK_TOKENS
        seen.update(arrival.blocks)
        nusd = _cheapest(stage, arrival, slo, snapshot.views.get(name, ()), min(known, arrival.prompt_tokens - 1))
        if nusd is None:
            impossible += 1
        else:
            total_nusd += nusd
            served += 1
    return LowerBound(1000 * total_nusd / 1e9 / served if served else None, impossible)


def _cheapest(stage: Stage, arrival: Arrival, slo: Slo, views: Sequence[BackendView], known: int) -> float | None:
    offers = []
    for view in views:
        server = stage.servers[view.name]
        found = known if server.block_tokens is not None else 0
        unread, cost, rates = arrival.prompt_tokens - found, view.cost, server.rates
        cached_nusd = rates.cached / MILLION if isinstance(rates, TokenRates) else 0.0
        nusd = cost.request_nusd + unread * cost.prompt_nusd + found * cached_nusd
        nusd += arrival.completion_tokens * cost.completion_nusd
        offers.append((nusd, view.name, unread))
    for nusd, name, unread in sorted(offers):
        if _kept(stage.servers[name], arrival, slo, unread):
            return nusd
    return None


def _kept(server: Server, arrival: Arrival, slo: Slo, unread: int) -> bool:
    """Whether an idle backend would keep the promises; what is cached need not be read."""
    length = min(arrival.completion_tokens, server.context_tokens - arrival.prompt_tokens)
    if length < 1:
        return False
    fate: Fate = forecast(server.engine, 0, unread, (length,))
    steps_s = (fate.ended_ns - fate.first_token_ns) / 1e9
    return (
        (slo.ttft_s is None or fate.first_token_ns / 1e9 <= slo.ttft_s)
        and (slo.tpot_s is None or length < 2 or steps_s / (length - 1) <= slo.tpot_s)
        and (slo.e2e_s is None or fate.ended_ns / 1e9 <= slo.e2e_s)
    )
