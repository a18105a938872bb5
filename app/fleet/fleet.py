"""The fleet: live backends, the immutable snapshot decisions are made from, and the one routing state.

Nobody else applies a delta. A decision and its reservation happen without an `await` between them, so that two
requests arriving together never see the same backend as idle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace
from itertools import chain
from typing import Self

from app.errors import Conflict, NotFound
from app.fleet.caps import Caps
from app.fleet.health import FULL_S, GATES, LONGEST_RETRY_AFTER_S, NEVER_NS, Health
from app.fleet.receipts import Receipts
from app.fleet.troubles import Troubles
from app.routing.policy import Policy
from app.routing.state import LastToken, RoutingState, Warmth
from app.routing.types import BackendView, Decision, Delta, Outcome, Reservation, RouteRequest, Snapshot
from app.routing.warmth import Standing, know, standing, wanted
from backends.base import Backend


@dataclass(slots=True)
class Latest:
    """The backends of the newest of several fleets that share a state."""

    backends: Mapping[str, Backend]


CLOCKS_APART_NS = 10_000_000
"""What another process tells of the same moment may be off by that."""


class Fleet:
    """Decides, keeps count of what is in flight, and learns."""

    def __init__(
        self,
        backends: Mapping[str, Backend],
        snapshot: Snapshot,
        policies: Mapping[str, Policy],
        receipts: Receipts,
        seed: int,
    ) -> None:
        self.backends = backends
        self.snapshot = snapshot
        self.policies = policies
        self.receipts = receipts
        self.state = RoutingState()
        self.troubles = Troubles()
        self.health = Health(self.state.gates, seed)
        self.health.know(snapshot.views)
        self.caps = Caps(self.health)
        self.released: Callable[[str, int], None] | None = None
        """Told which backend has room again (somebody has left it, it is back in the running, it is warm sooner than
        expected, it may have more at a time), and when: held requests wait for that. What opens by the mere passing of
        time is told by `opens_ns`."""
        self.wakes: Callable[[str, int], None] | None = None
        """Has a backend warm up where the backends themselves are not started (virtual time)."""
        self.drained_by_hand: dict[str, bool] = {}
        self._seed = seed
        self._latest = Latest(backends)

    def successor(
        self,
        backends: Mapping[str, Backend],
        snapshot: Snapshot,
        policies: Mapping[str, Policy],
        seed: int,
        drained_by_hand: dict[str, bool],
    ) -> Self:
        """A fleet for another configuration that shares with this one all it has counted and learned."""
        other = copy(self)
        other.backends = backends
        other.snapshot = snapshot
        other.policies = policies
        other.drained_by_hand = drained_by_hand
        other._seed = seed
        return other

    def supersede(self, by: Fleet) -> None:
        """The successor decides from now on. Backends that are others there, or gone, are unlearned, and what earlier
        fleets still observe of them teaches nobody."""
        self._latest.backends = by.backends
        self.health.know(by.snapshot.views)
        for name, backend in self.backends.items():
            if by.backends.get(name) is not backend:
                self.state.forget(name)
                self.health.forget(name)
                self.troubles.forget(name)

    async def start(self) -> None:
        """Start every backend, in configuration order."""
        for backend in self.backends.values():
            await backend.start()

    async def aclose(self) -> None:
        """Close every backend, last started first."""
        for backend in reversed(self.backends.values()):  # type: ignore[call-overload]
            await backend.aclose()

    def substrates(self, model: str) -> list[str]:
        """Which kinds of silicon serve a model."""
        return sorted({view.substrate for view in self.snapshot.views.get(model, ())})

    def quality(self, model: str) -> float | None:
        """The best that is declared of a model's backends, 0 to 1; None where nobody serves it."""
        return max((view.quality for view in self.snapshot.views.get(model, ())), default=None)

    def drained(self) -> list[str]:
        """Backends that get nothing new."""
        return sorted({view.name for views in self.snapshot.views.values() for view in views if view.drained})

    def preview(self, request: RouteRequest, now_ns: int) -> Decision:
        """Decide without reserving anything (dry run); the receipt is kept.

        Raises: NotFound for a policy that is not configured.
        """
        return self._decide(request, now_ns, thorough=True)[0]

    def decide(self, request: RouteRequest, now_ns: int) -> tuple[Decision, Reservation | None]:
        """Decide, and reserve the load on the winner: whoever gets a reservation gives it back with `release`.

        The receipt is kept. Raises: NotFound for a policy that is not configured.
        """
        decision, delta = self._decide(request, now_ns)
        if delta.reservation is not None:
            self.state.reserve(delta.reservation, now_ns)
            self.caps.take(delta.reservation.backend, now_ns)
            if decision.reason == "panic":
                self.health.panics += 1
        for name, value in delta.sticky:
            self.state.sticky[name] = value
        if self.state.warmth and (cold := wanted(self.state, decision, now_ns)) is not None:
            self.warm(cold, now_ns)
        return decision, delta.reservation

    def know_warmth(self, now_ns: int) -> None:
        """This fleet decides from now on: know which of its backends can be cold."""
        know(self.state, self._views(), now_ns)

    def warmth(self, name: str, now_ns: int) -> Standing | None:
        """How warm a backend is; None for one that is never cold."""
        return next((standing(self.state, view, now_ns) for view in self._views() if view.name == name), None)

    def warm(self, name: str, now_ns: int) -> None:
        """Have a cold backend warm up, though no request is sent to it. A warm one is left as it is.

        Raises: NotFound; Conflict for one that is never cold.
        """
        if name not in self.backends:
            raise NotFound(f"no backend '{name}'", code="backend_not_found")
        stands = self.warmth(name, now_ns)
        if stands is None:
            raise Conflict(f"backend '{name}' declares no cold_start: it is never cold", code="never_cold")
        if stands.warmth == "cold":
            self.state.warm(name, stands.warm_in_s, now_ns)
            if self.wakes is None:
                self.backends[name].warm()
            else:
                self.wakes(name, now_ns)

    def _views(self) -> Iterator[BackendView]:
        return chain.from_iterable(self.snapshot.views.values())

    def heard(self, backend: str) -> LastToken:
        """Where the arrival of a backend's tokens is noted."""
        load = self.state.load(backend)
        if not isinstance(load.heard, LastToken):
            load.heard = LastToken()
        return load.heard

    def first_token(self, reservation: Reservation, now_ns: int) -> None:
        """The prompt has been read: it no longer makes others wait."""
        self.state.first_token(reservation, now_ns)

    def release(self, reservation: Reservation, now_ns: int) -> None:
        """The request has left the backend."""
        self.state.release(reservation, now_ns)
        self.caps.give(reservation.backend, now_ns)
        self._opened(reservation.backend, now_ns)

    def answers(self, backend: str, now_ns: int) -> None:
        """A token has come from a backend: it is warm, if it was not known to be."""
        if self.state.warmth and self._is_latest(backend) and self.state.answers(backend, now_ns):
            self._opened(backend, now_ns)

    def allow(self, backend: str, slots: int, now_ns: int) -> None:
        """So many requests at a time from now on, by a lease of a shared cap."""
        more = slots > self.caps.allowed.get(backend, 0)
        self.caps.allow(backend, slots, now_ns)
        if more:
            self._opened(backend, now_ns)

    def not_cold(self, now_ns: int) -> dict[str, Warmth]:
        """What is known of the backends that can be cold and are not, as others may be told: in use is used now."""
        found = {}
        for view in self._views():
            stands = standing(self.state, view, now_ns)
            if stands is not None and stands.warmth != "cold":
                known, load = self.state.warmth[view.name], self.state.loads.get(view.name)
                found[view.name] = known._replace(used_ns=now_ns) if load is not None and load.sequences else known
        return found

    def warm_elsewhere(self, backend: str, warm_ns: int, used_ns: int, now_ns: int) -> None:
        """Another process tells since (or from) when a backend is warm, and when it was last used."""
        stands = self.warmth(backend, now_ns)
        if stands is None:
            return
        known = self.state.warmth[backend]
        if stands.warmth == "cold" or known.warm_ns is None:
            self.state.prefixes.pop(backend, None)
        else:
            if warm_ns > known.warm_ns - CLOCKS_APART_NS:  # told in milliseconds of another clock, again and again
                warm_ns = known.warm_ns
            used_ns = max(known.used_ns, used_ns)
        self.state.warmth[backend] = Warmth(warm_ns, used_ns)
        if stands.warm_in_s and warm_ns <= now_ns:
            self._opened(backend, now_ns)

    def opens_ns(self, model: str, now_ns: int) -> int | None:
        """When the next gate of a model's backends ends by itself. (Warming up does not count: whose promise does not
        allow for it now will not when it is over.)"""
        if not self.state.gates:
            return None
        gates = [self.state.gates.get(view.name) for view in self.snapshot.views.get(model, ())]
        times = [gate.until_ns for gate in gates if gate is not None and now_ns < gate.until_ns < NEVER_NS]
        return min(times, default=None)

    def _opened(self, backend: str, now_ns: int) -> None:
        if self.released is not None:
            self.released(backend, now_ns)

    def observe(self, outcome: Outcome, now_ns: int) -> None:
        """Learn from an attempt."""
        if self._is_latest(outcome.chosen.view.name):
            self.state.observe(outcome, now_ns)

    def _is_latest(self, name: str) -> bool:
        """Whether what is seen of this fleet's backend is true of the newest fleet's."""
        latest = self._latest.backends
        return latest is self.backends or latest.get(name) is self.backends[name]

    def _decide(self, request: RouteRequest, now_ns: int, *, thorough: bool = False) -> tuple[Decision, Delta]:
        policy = self.policies.get(request.policy)
        if policy is None:
            raise NotFound(
                f"policy '{request.policy}' is not configured (there are: {', '.join(sorted(self.policies))})",
                param="x-turnout-policy",
                code="policy_not_found",
            )
        receipts = self.receipts
        seed = self._seed + receipts.next_number()
        decision, delta = policy.decide(
            request, self.snapshot, self.state, now_ns, seed, receipts.next_id(), thorough=thorough
        )
        if decision.chosen is None and decision.reason == "no_candidates" and self.state.gates:
            decision, delta = self._panic(policy, decision, delta, now_ns)
        if decision.rejected and self.caps.caps:
            self.caps.miss(decision.rejected)
        receipts.keep(decision)
        return decision, delta

    def _panic(self, policy: Policy, refused: Decision, delta: Delta, now_ns: int) -> tuple[Decision, Delta]:
        """Gates left nobody. Where they are guesses, the backend shut longest ago is asked nonetheless (reason
        `panic`); a request that has been tried elsewhere already is not worth that. Else: when the first gate opens."""
        request, gates = refused.request, self.state.gates
        for name in () if request.exclude else self.health.last_resorts(refused.rejected):
            gate = gates.pop(name)
            decision, found = policy.decide(request, self.snapshot, self.state, now_ns, refused.seed, refused.id)
            gates[name] = gate
            if decision.chosen is not None:
                return decision._replace(reason="panic"), found
        opens_ns = [
            now_ns + int(FULL_S * 1e9) if reason == "full" else gates[name].until_ns
            for name, reason in refused.rejected
            if name in gates and reason in GATES
        ]
        if not opens_ns:
            return refused, delta
        wait_s = min(max(0.001, (min(opens_ns) - now_ns) / 1e9), LONGEST_RETRY_AFTER_S)
        return refused._replace(retry_after_s=wait_s), delta

    def set_drained(self, name: str, now_ns: int, *, drained: bool) -> None:
        """Take a backend out of (or back into) the running; what it already serves goes on.

        Raises: NotFound.
        """
        if name not in self.backends:
            raise NotFound(f"no backend '{name}'", code="backend_not_found")
        self.drained_by_hand[name] = drained
        self.snapshot = replace(
            self.snapshot,
            views={
                model: tuple(replace(view, drained=drained) if view.name == name else view for view in views)
                for model, views in self.snapshot.views.items()
            },
        )
        if not drained:
            self._opened(name, now_ns)
