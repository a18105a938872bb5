"""The last decisions, by id, so that an operator can ask why a request went where it went."""

from __future__ import annotations

from collections import OrderedDict

from app.routing.types import Decision


class Receipts:
    """A ring of the most recent decisions."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._by_id: OrderedDict[str, Decision] = OrderedDict()

    def keep(self, decision: Decision) -> None:
        """Remember a decision; the oldest goes when the ring is full."""
        self._by_id[decision.id] = decision
        if len(self._by_id) > self._kept:
            self._by_id.popitem(last=False)

    def get(self, decision_id: str) -> Decision | None:
        """The decision of that id, unless it is too old."""
        return self._by_id.get(decision_id)

    def latest(self, count: int) -> list[Decision]:
        """The newest `count` decisions, newest first."""
        newest = list(self._by_id.values())[-count:] if count > 0 else []
        return newest[::-1]
