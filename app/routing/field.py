"""The backends a request may go to, in order of price; each becomes a candidate when it is looked at. Pure.

What a request would cost is known at once, how long it would take is most of the work of a decision. A picker that need
not see everybody asks for those that may still win.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.routing.types import BackendView, Candidate

Look = Callable[[Sequence[BackendView]], list[Candidate]]


class Field:
    """`costs_nusd` by place, places in `order` of it; `looked` are candidates, the first looked at first."""

    __slots__ = ("_look", "_seen", "costs_nusd", "looked", "order", "views")

    def __init__(self, views: Sequence[BackendView], costs_nusd: Sequence[float], look: Look) -> None:
        self.views = views
        self.costs_nusd = costs_nusd
        self.order = sorted(range(len(views)), key=costs_nusd.__getitem__)
        self.looked: list[Candidate] = []
        self._look = look
        self._seen: dict[int, Candidate] = {}

    def look(self, place: int) -> Candidate:
        """The candidate at a place."""
        found = self._seen.get(place)
        if found is None:
            (found,) = self._look((self.views[place],))
            self._seen[place] = found
            self.looked.append(found)
        return found

    def unseen(self) -> list[int]:
        """Places that nobody has looked at, in order of price."""
        seen = self._seen
        return [place for place in self.order if place not in seen]
