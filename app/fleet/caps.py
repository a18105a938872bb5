"""Hard caps: a backend that declares `max_in_flight` never gets more requests at a time. No I/O and no clock.

What is allowed is the whole cap, or the slots this process has leased of it (`app.fleet.sharing`). A backend whose
slots are all used is shut with the reason `full`, in the same step in which the last one is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from app.fleet.health import Health


class Slots(NamedTuple):
    """Of a capped backend: what this process may use (all of the cap, or what it has leased), and uses."""

    allowed: int
    used: int


class Caps:
    """Counts attempts by backend, and holds them against what is allowed."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self.caps: Mapping[str, int] = {}
        self.shared = False
        self.allowed: dict[str, int] = {}
        self.used: dict[str, int] = {}
        self.missed: set[str] = set()
        """Where somebody would have gone, had there been a slot; emptied by whoever leases."""
        self.wanted: Callable[[], None] | None = None
        """Told when there is something in `missed`."""

    def configure(self, caps: Mapping[str, int], *, shared: bool, now_ns: int) -> None:
        """Hold these caps from now on. Shared ones allow what has been leased, at first nothing."""
        for name in self.caps.keys() - caps.keys():
            self._health.full(name, full=False, now_ns=now_ns)
        kept = self.allowed if shared and self.shared else {}
        self.caps, self.shared = caps, shared
        self.allowed = {name: min(cap, kept.get(name, 0)) if shared else cap for name, cap in caps.items()}
        for name in caps:
            self._show(name, now_ns)

    def allow(self, name: str, slots: int, now_ns: int) -> None:
        """So many at a time from now on; what is in flight beyond that goes on."""
        if name in self.caps:
            self.allowed[name] = slots
            self._show(name, now_ns)

    def take(self, name: str, now_ns: int) -> None:
        """One attempt more."""
        self.used[name] = self.used.get(name, 0) + 1
        if name in self.caps:
            self._show(name, now_ns)

    def give(self, name: str, now_ns: int) -> None:
        """One attempt less."""
        self.used[name] -= 1
        if name in self.caps:
            self._show(name, now_ns)

    def slots(self, name: str) -> Slots | None:
        """How many requests it may have, and has, by this process's count; None where there is no cap."""
        return Slots(self.allowed[name], self.used.get(name, 0)) if name in self.caps else None

    def miss(self, rejected: Iterable[tuple[str, str]]) -> None:
        """A decision has found these shut; the leased ones among them may want for slots."""
        missed = [name for name, reason in rejected if reason == "full"]
        if missed and self.shared:
            self.missed.update(missed)
            if self.wanted is not None:
                self.wanted()

    def _show(self, name: str, now_ns: int) -> None:
        self._health.full(name, full=self.used.get(name, 0) >= self.allowed[name], now_ns=now_ns)
