"""The last decisions, by id, so that an operator can ask why a request went where it went."""

from __future__ import annotations

from app.routing.types import Decision


class Receipts:
    """A ring: decision number n stands at n modulo its size. An id is a prefix and the number in hexadecimal."""

    def __init__(self, kept: int, id_prefix: str) -> None:
        self._ring: list[Decision | None] = [None] * kept
        self._id_prefix = id_prefix
        self._next = 1

    def next_number(self) -> int:
        """The number of the decision about to be made, from 1."""
        return self._next

    def next_id(self) -> str:
        """Its id."""
        return f"{self._id_prefix}{self._next:x}"

    def resume(self, number: int) -> None:
        """The next decision is given this number, as if there had been those before it."""
        self._next = number

    def keep(self, decision: Decision) -> None:
        """Remember the decision that was given `next_id`; it takes the place of the oldest."""
        self._ring[self._next % len(self._ring)] = decision
        self._next += 1

    def resize(self, kept: int) -> None:
        """Keep as many from now on; what fits of the newest stays."""
        if kept == len(self._ring):
            return
        newest = self.latest(kept)
        self._ring = [None] * kept
        for age, decision in enumerate(newest, start=1):
            self._ring[(self._next - age) % kept] = decision

    def get(self, decision_id: str) -> Decision | None:
        """The decision of that id, unless it is too old."""
        try:
            number = int(decision_id.removeprefix(self._id_prefix), 16)
        except ValueError:
            return None
        found = self._ring[number % len(self._ring)]
        return found if found is not None and found.id == decision_id else None

    def latest(self, count: int) -> list[Decision]:
        """The newest `count` decisions, newest first."""
        size = len(self._ring)
        numbers = range(self._next - 1, max(0, self._next - 1 - min(count, size)), -1)
        return [decision for number in numbers if (decision := self._ring[number % size]) is not None]
