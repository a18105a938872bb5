"""Backends that are scaled to zero while nobody needs them: cold, warming up or warm, and what that means. Pure.

What is declared of a backend is its view's (`ColdStart`), what is known of it the state's (`Warmth`): asked while cold
it warms up, for as long as is declared or until its first token proves it warm; not used for so long it is cold again.
A prediction of one that is not warm is made as of the moment it will be, and what is left until then is added to the
TTFT. So whoever holds it against a promise asks it only if the promise allows for that, or if nobody else is there.

A cold backend that nobody dares to ask would stay cold for ever. So where nobody keeps a request's promise (it is held,
shed or sacrificed) and a cold backend would if it were warm, that one is `wanted`: woken, one at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from app.routing.slo import fit, remaining
from app.routing.state import RoutingState, Warmth
from app.routing.types import BackendView, Candidate, Decision, Prediction

UNMET = frozenset({"hold", "shed", "overflow", "least_violation"})
"""Reasons of decisions that leave a promise to be broken, or nearly."""

JUST_BEFORE_NS = 1_000
"""A prompt sent while a backend warms up is there when its first step begins."""


class Standing(NamedTuple):
    """How warm a backend is, and in how many seconds it would be if it were asked now."""

    warmth: Literal["cold", "warming", "warm"]
    warm_in_s: float


def know(state: RoutingState, views: Iterable[BackendView], now_ns: int) -> None:
    """Which backends can be cold. Those not known of yet are as they are declared to start, or warm if in use."""
    declared = {view.name: view.cold_start for view in views if view.cold_start is not None}
    for name in state.warmth.keys() - declared.keys():
        del state.warmth[name]
    for name, cold_start in declared.items():
        if name not in state.warmth:
            warm = cold_start.starts == "warm" or _in_use(state, name)
            state.warmth[name] = Warmth(now_ns if warm else None, now_ns)


def left_ns(state: RoutingState, view: BackendView, now_ns: int) -> int:
    """How much warming up is left for who asks now; 0 for a backend that is never cold."""
    cold_start, known = view.cold_start, state.warmth.get(view.name)
    if cold_start is None or known is None:
        return 0
    used_ns = None if _in_use(state, view.name) else known.used_ns
    return cold_start.left_ns(known.warm_ns, used_ns, now_ns)


def standing(state: RoutingState, view: BackendView, now_ns: int) -> Standing | None:
    """How warm a backend is; None for one that is never cold."""
    if view.name not in state.warmth:
        return None
    if not (left := left_ns(state, view, now_ns)):
        return Standing("warm", 0.0)
    warm_ns = state.warmth[view.name].warm_ns
    warming = warm_ns is not None and now_ns < warm_ns
    return Standing("warming" if warming else "cold", left / 1e9)


def still_cold(views: Sequence[BackendView], state: RoutingState, now_ns: int) -> list[tuple[int, int]]:
    """(place, nanoseconds left) of those that are not warm."""
    return [(place, left) for place, view in enumerate(views) if (left := left_ns(state, view, now_ns))]


def warmed_up(warm: Prediction, left: int) -> Prediction:
    """A prediction as of the moment a backend is warm, in so many nanoseconds, as of now."""
    left_s = left / 1e9
    return warm._replace(
        ttft_s=warm.ttft_s + left_s,
        ttft_q90_s=warm.ttft_q90_s + left_s,
        pace=warm.pace._replace(left_s=warm.pace.left_s + left_s),
        warm_up_s=left_s,
    )


def wanted(state: RoutingState, decision: Decision, now_ns: int) -> str | None:
    """The cheapest cold backend that would keep a promise nobody keeps; None too while one is on its way."""
    cold = [each for each in decision.candidates if each.prediction.warm_up_s]
    woken = decision.chosen is not None and decision.chosen.prediction.warm_up_s > 0.0
    if decision.reason not in UNMET or woken or any(_warming(state, each, now_ns) for each in cold):
        return None
    slo = remaining(decision.request, now_ns)
    keep = [each for each in cold if not fit(if_warm(each.prediction), slo, None, 0.0).why_not]
    return min(keep, key=lambda each: each.prediction.cost_nusd).view.name if keep else None


def if_warm(prediction: Prediction) -> Prediction:
    """The same without what is left of warming up."""
    left_s = prediction.warm_up_s
    return prediction._replace(
        ttft_s=prediction.ttft_s - left_s, ttft_q90_s=prediction.ttft_q90_s - left_s, warm_up_s=0.0
    )


def _warming(state: RoutingState, candidate: Candidate, now_ns: int) -> bool:
    stands = standing(state, candidate.view, now_ns)
    return stands is not None and stands.warmth == "warming"


def _in_use(state: RoutingState, name: str) -> bool:
    load = state.loads.get(name)
    return load is not None and bool(load.sequences or load.others.sequences)
