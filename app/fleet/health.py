"""Who may be asked just now: breakers, outliers and requests to come back later, as gates the policy obeys.

A gate shuts a backend until a time, with a reason: `breaker_open`, `breaker_probing`, `ejected`, `retry_after`,
`breaker_elsewhere` (another process's breaker is open, or it is the one that probes), `cold` (it warms up as declared,
and refuses meanwhile), `full` (`app.fleet.caps`). Where several hold, the one that lasts longest stands. It decides by
what it is told and when: no clock, no I/O, so that real and virtual time share it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import NamedTuple

from app.fleet.breaker import JITTER, LONGEST_OPEN_S, Breaker, BreakerState
from app.fleet.outliers import Outliers
from app.routing.state import Gate
from app.routing.types import BackendView, Candidate
from backends.errors import BackendError, Saturated, Unavailable

NEVER_NS = 1 << 62
SPENT = -1
"""The ticket of an attempt that has been counted."""

SECOND_NS = 1_000_000_000

SLOW_FACTOR = 5.0
SLOW_AT_LEAST_S = 0.5
"""A first token that takes this many times its predicted 0.9 quantile counts as a failure (never below the latter)."""

LONGEST_RETRY_AFTER_S = 10.0
FULL_S = 0.05
"""How long a backend is left alone whose queue is full and which has not said when to come back."""

EJECTED_S, LONGEST_EJECTED_S = 10.0, 60.0
EJECTED_SHARE = 3
"""One in so many of a model's backends may be shut as an outlier."""
FORGIVEN_AFTER_NS = 60 * SECOND_NS

GATES = frozenset({"breaker_open", "breaker_probing", "breaker_elsewhere", "ejected", "cold", "retry_after", "full"})
"""Every reason a gate may have."""

PANICKED_BY = frozenset({"breaker_open", "breaker_probing", "breaker_elsewhere", "ejected"})
"""Gates that are a guess. If they shut everybody, the guess is worse than trying."""


PROBED_NS = 5 * SECOND_NS
"""How long others leave a backend alone because it is half-open here: it may be that nobody asks it here."""


class Look(NamedTuple):
    """How things stand with a backend: why it gets nothing just now, and for how many seconds more (None = unknown)."""

    breaker: BreakerState
    gate: str | None
    opens_in_s: float | None
    ejections: int


class Health:
    """Owns every breaker and ejection, and alone writes `gates` (`RoutingState.gates`)."""

    def __init__(self, gates: dict[str, Gate], seed: int) -> None:
        self._gates = gates
        self._seed = seed
        self._breakers: dict[str, Breaker] = {}
        self._shut: dict[str, dict[str, int]] = {}
        self._ejected: dict[str, tuple[int, int]] = {}
        self._outliers = Outliers()
        self._peers: dict[str, tuple[str, ...]] = {}
        self.panics = 0
        self.ejections: dict[str, int] = {}

    def know(self, views: Mapping[str, tuple[BackendView, ...]]) -> None:
        """Which backends serve which model: what is ejected depends on how many are left."""
        self._peers = {model: tuple(view.name for view in listed) for model, listed in views.items()}

    def forget(self, backend: str) -> None:
        """It is another one now: nothing of the old one holds, and how its attempts still end says nothing."""
        if (old := self._breakers.pop(backend, None)) is not None:
            self.breaker(backend).epoch = old.epoch + 1
        for kept in (self._shut, self._ejected, self._gates):
            kept.pop(backend, None)
        self._outliers.forget(backend)

    def breaker(self, backend: str) -> Breaker:
        """The breaker of a backend."""
        found = self._breakers.get(backend)
        if found is None:
            found = self._breakers[backend] = Breaker(self._seed ^ zlib.crc32(backend.encode()))
        return found

    def begin(self, backend: str, now_ns: int) -> int:
        """A request is sent to a backend; returns a ticket for `ended`."""
        breaker = self.breaker(backend)
        ticket = breaker.begin(now_ns)
        if breaker.state != "closed":
            self._show_breaker(backend, breaker, now_ns)
        return ticket

    def abandoned(self, backend: str, ticket: int, now_ns: int) -> None:
        """Nothing was asked after all, or nobody waited for the answer: it says nothing."""
        self._count(backend, ticket, None, now_ns)

    def began(self, chosen: Candidate, ticket: int, ttft_s: float | None, now_ns: int) -> int:
        """A first token was seen. That answers a probe; returns the ticket that holds from now on."""
        backend = chosen.view.name
        if self.breaker(backend).state == "closed":
            return ticket
        self._count(backend, ticket, not _slow(chosen, ttft_s), now_ns)
        return SPENT

    def answered(self, chosen: Candidate, ticket: int, ttft_s: float | None, now_ns: int) -> None:
        """An answer was complete; a first token that came far too late makes it a failure."""
        view, prediction = chosen.view, chosen.prediction
        self._count(view.name, ticket, not _slow(chosen, ttft_s), now_ns)
        if (
            ttft_s
            and not prediction.warm_up_s
            and prediction.ttft_s > 0
            and self._outliers.answered(view.name, view.model, ttft_s, prediction.ttft_s)
        ):
            self._eject(view.name, view.model, now_ns)

    def failed(
        self, backend: str, ticket: int, error: BackendError | None, now_ns: int, warm_in_s: float = 0.0
    ) -> None:
        """An attempt failed; None is a fault of the backend's code. One that has `warm_in_s` of its warming up left may
        refuse to be asked for as long."""
        if warm_in_s and isinstance(error, Unavailable | Saturated):
            wait_s = min(LONGEST_RETRY_AFTER_S, warm_in_s)
            self._shut.setdefault(backend, {})["cold"] = now_ns + int(wait_s * SECOND_NS)
            self._show(backend, now_ns)
            self._count(backend, ticket, None, now_ns)
            return
        if isinstance(error, Saturated):
            wait_s = min(LONGEST_RETRY_AFTER_S, error.retry_after_s) if error.told else FULL_S
            self._shut.setdefault(backend, {})["retry_after"] = now_ns + int(wait_s * SECOND_NS)
            self._show(backend, now_ns)
            self._count(backend, ticket, None, now_ns)
            return
        self._count(backend, ticket, None if error is not None and error.client_fault else False, now_ns)

    def ejected(self, backend: str, now_ns: int) -> bool:
        """Whether it is shut as an outlier."""
        return self._shut.get(backend, {}).get("ejected", 0) > now_ns

    def full(self, backend: str, *, full: bool, now_ns: int) -> None:
        """All it may have in flight it has, or no longer. Outlasts every other reason: this one is no guess."""
        shut = self._shut.get(backend, {})
        if full == ("full" in shut):
            return
        if full:
            self._shut.setdefault(backend, shut)["full"] = NEVER_NS + 1
        else:
            del shut["full"]
        self._show(backend, now_ns)

    def elsewhere(self, backend: str, until_ns: int, now_ns: int) -> None:
        """Other processes say that it is to be left alone until then (0 = they say so no longer)."""
        shut = self._shut.setdefault(backend, {})
        if until_ns > now_ns:
            shut["breaker_elsewhere"] = min(until_ns, now_ns + int(LONGEST_OPEN_S * (1 + JITTER) * SECOND_NS))
        elif shut.pop("breaker_elsewhere", None) is None:
            return
        self._show(backend, now_ns)

    def told(self, now_ns: int, ahead_ns: int) -> dict[str, int]:
        """Until when others had better leave backends alone, as this process sees it: `ahead_ns` from now while it is
        about to be probed from here."""
        told = {}
        for backend, breaker in self._breakers.items():
            if breaker.state == "open" and breaker.until_ns > now_ns:
                told[backend] = breaker.until_ns
            elif breaker.state == "half_open" and now_ns - breaker.since_ns < PROBED_NS:
                told[backend] = now_ns + ahead_ns
        return told

    def probing(self, by_ns: int) -> list[str]:
        """Backends that may be probed from here by then."""
        return [
            backend
            for backend, breaker in self._breakers.items()
            if breaker.state == "half_open" or (breaker.state == "open" and breaker.until_ns <= by_ns)
        ]

    def look(self, backend: str, now_ns: int) -> Look:
        """How things stand with a backend."""
        breaker, gate = self._breakers.get(backend), self._gates.get(backend)
        shut = gate is not None and gate.until_ns > now_ns
        return Look(
            "closed" if breaker is None else breaker.at(now_ns),
            gate.reason if gate is not None and shut else None,
            (gate.until_ns - now_ns) / 1e9 if gate is not None and shut and gate.until_ns < NEVER_NS else None,
            self.ejections.get(backend, 0),
        )

    def last_resorts(self, rejected: tuple[tuple[str, str], ...]) -> list[str]:
        """Whom to ask when guesses alone shut everybody: least recently shut first; nobody, if another reason is there.

        A backend that asked to be left alone is obeyed, not guessed at.
        """
        shut = [name for name, reason in rejected if reason in PANICKED_BY]
        if not shut or any(reason == "retry_after" for _, reason in rejected):
            return []
        return sorted(shut, key=lambda name: self.breaker(name).since_ns)

    def _count(self, backend: str, ticket: int, answered: bool | None, now_ns: int) -> None:
        breaker = self._breakers.get(backend)
        if breaker is not None and breaker.ended(ticket, answered, now_ns):
            self._show_breaker(backend, breaker, now_ns)

    def _show_breaker(self, backend: str, breaker: Breaker, now_ns: int) -> None:
        shut = self._shut.setdefault(backend, {})
        shut.pop("breaker_open", None)
        shut.pop("breaker_probing", None)
        if breaker.state == "open":
            shut["breaker_open"] = breaker.until_ns
        elif breaker.probing:
            shut["breaker_probing"] = NEVER_NS
        self._show(backend, now_ns)

    def _show(self, backend: str, now_ns: int) -> None:
        """Make the gate what the longest lasting reason says."""
        shut = self._shut[backend]
        for reason in [reason for reason, until_ns in shut.items() if until_ns <= now_ns]:
            del shut[reason]
        if not shut:
            self._gates.pop(backend, None)
            return
        reason = max(shut, key=lambda each: shut[each])
        self._gates[backend] = Gate(reason, shut[reason])

    def _eject(self, backend: str, model: str, now_ns: int) -> None:
        peers = self._peers.get(model, ())
        shut = [name for name in peers if name in self._gates and self._gates[name].until_ns > now_ns]
        already = sum(self.ejected(name, now_ns) for name in peers)
        if already + 1 > len(peers) // EJECTED_SHARE or len(shut) + 1 >= len(peers):
            return
        times, back_ns = self._ejected.get(backend, (0, 0))
        if now_ns - back_ns >= FORGIVEN_AFTER_NS:
            times = 0
        until_ns = now_ns + int(min(LONGEST_EJECTED_S, EJECTED_S * 2.0**times) * SECOND_NS)
        self._ejected[backend] = (min(times + 1, 10), until_ns)
        self.ejections[backend] = self.ejections.get(backend, 0) + 1
        self._outliers.forget(backend)
        self._shut.setdefault(backend, {})["ejected"] = until_ns
        self._show(backend, now_ns)


def _slow(chosen: Candidate, ttft_s: float | None) -> bool:
    return ttft_s is not None and ttft_s > max(SLOW_AT_LEAST_S, SLOW_FACTOR * chosen.prediction.ttft_q90_s)
