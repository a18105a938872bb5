"""The gateway's queue: requests that wait for room, bounded, and in a fair order. Pure: no clock, no I/O.

    order    at a model, higher priority first; within one the tenant served least of late; of its own the earliest
    deadline served   what a tenant's requests took: 1 per prompt token, 2 per completion token, halved every 60 s
    bounds   in all, and per tenant; a request whose turn would come after its deadline is refused at once

When a backend has room (`Fleet.released`) or its gate ends (`Fleet.opens_ns`) the owner asks `turns` for each model it
serves who may decide again, a bounded number, and calls `Dispatch.wake` of each; for each that is then sent it asks
again, for there may be room for another. A dispatch that waits on stays in place; one that is sent, refused or left
takes itself out with `leave`.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Generic, Literal, NamedTuple, TypeVar

HALF_LIFE_NS = 60_000_000_000
PROMPT_WEIGHT, COMPLETION_WEIGHT = 1.0, 2.0
RESCALED_AT = 400
PACE = 0.2

Waiter = TypeVar("Waiter")
T = TypeVar("T")
Turned = Literal["queue_full", "queue_too_long"]


class Place(NamedTuple):
    """A request's place. `cost` is what it will count as served."""

    model: str
    priority: int
    tenant: str
    deadline_ns: int
    cost: float
    since_ns: int


def cost_of(prompt_tokens: int, completion_tokens: int) -> float:
    """What a request counts in its tenant's account."""
    return PROMPT_WEIGHT * prompt_tokens + COMPLETION_WEIGHT * completion_tokens


class Admission(Generic[Waiter]):
    """The queue. `left(place, seconds, placed)` is told of everyone who leaves it, and whether to a backend."""

    def __init__(
        self, most: int, most_per_tenant: int, left: Callable[[Place, float, bool], None] | None = None
    ) -> None:
        self._most = most
        self._most_per_tenant = most_per_tenant
        self._left = left
        self._places: dict[Waiter, Place] = {}
        self._lines: dict[tuple[str, int], dict[str, list[tuple[int, int, Waiter]]]] = {}
        self._number = 0
        self._per_tenant: dict[str, int] = {}
        self._depth: dict[tuple[str, int], int] = {}
        self._served: dict[str, float] = {}
        self._origin_ns = 0
        self._interval_ns = 0.0
        self._last_placed_ns: int | None = None

    def __len__(self) -> int:
        return len(self._places)

    def depth(self) -> dict[int, int]:
        """How many wait, by priority."""
        depth: dict[int, int] = {}
        for (_, priority), waiting in self._depth.items():
            depth[priority] = depth.get(priority, 0) + waiting
        return depth

    def wait_s(self, priority: int) -> float:
        """How long a newcomer of that priority would wait at the pace of late; 0 while there is no pace to go by."""
        ahead = sum(waiting for (_, other), waiting in self._depth.items() if other >= priority)
        return ahead * self._interval_ns / 1e9

    def offer(self, waiter: Waiter, place: Place, now_ns: int) -> Turned | None:
        """Take a request in, once; else why not."""
        waiting = self._per_tenant.get(place.tenant, 0)
        if len(self._places) >= self._most or waiting >= self._most_per_tenant:
            return "queue_full"
        if now_ns + self.wait_s(place.priority) * 1e9 > place.deadline_ns:
            return "queue_too_long"
        if not self._places:
            self._last_placed_ns = None  # how long nobody waited says nothing of the pace
        self._places[waiter] = place
        self._per_tenant[place.tenant] = waiting + 1
        rank = place.model, place.priority
        self._depth[rank] = self._depth.get(rank, 0) + 1
        self._number += 1
        line = self._lines.setdefault(rank, {}).setdefault(place.tenant, [])
        heappush(line, (place.deadline_ns, self._number, waiter))
        return None

    def turns(self, model: str, most: int, now_ns: int) -> list[Waiter]:
        """Whose turn it is at a model, best first: up to `most` of the highest priority, none of them taken out."""
        priority = max((priority for name, priority in self._depth if name == model), default=None)
        if priority is None:
            return []
        scale = self._scale(now_ns)
        lines = self._lines[model, priority]
        served = {tenant: self._served.get(tenant, 0.0) for tenant in lines}
        taken: list[tuple[str, tuple[int, int, Waiter]]] = []
        while served and len(taken) < most:
            for each in list(served):
                line = lines[each]
                while line and line[0][2] not in self._places:
                    heappop(line)  # it has left, and its deadline says nothing of the tenant's next
                if not line:
                    del served[each]
            if not served:
                break
            tenant = min(served, key=lambda each: (served[each], lines[each][0][0]))
            first = heappop(lines[tenant])
            taken.append((tenant, first))
            served[tenant] += self._places[first[2]].cost * scale
        for tenant, entry in taken:
            heappush(lines[tenant], entry)
        return [entry[2] for _, entry in taken]

    def leave(self, waiter: Waiter, now_ns: int, *, placed: bool) -> None:
        """Take a request out: it was sent to a backend (`placed`), refused, or its client has gone. Idempotent."""
        place = self._places.pop(waiter, None)
        if place is None:
            return
        _less(self._per_tenant, place.tenant)
        if _less(self._depth, (place.model, place.priority)):
            del self._lines[place.model, place.priority]
        if placed:
            if self._last_placed_ns is not None:
                self._interval_ns += PACE * (now_ns - self._last_placed_ns - self._interval_ns)
            self._last_placed_ns = now_ns
        if self._left is not None:
            self._left(place, (now_ns - place.since_ns) / 1e9, placed)

    def served(self, tenant: str, cost: float, now_ns: int) -> None:
        """A tenant's request was sent to a backend."""
        self._served[tenant] = self._served.get(tenant, 0.0) + cost * self._scale(now_ns)

    def _scale(self, now_ns: int) -> float:
        """What counts now, in the units of the accounts: later ones count more instead of earlier ones less."""
        halvings = (now_ns - self._origin_ns) / HALF_LIFE_NS
        if halvings > RESCALED_AT:
            less = 2.0 ** -min(halvings, 1000.0)
            self._served = {tenant: value * less for tenant, value in self._served.items() if value * less > 1e-9}
            self._origin_ns, halvings = now_ns, 0.0
        return float(2.0**halvings)


def _less(counts: dict[T, int], key: T) -> bool:
    """One fewer; True if none is left."""
    counts[key] -= 1
    if counts[key]:
        return False
    del counts[key]
    return True
