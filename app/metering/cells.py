"""Counters as plain integer cells: exact, and a tenth of the price of a library child on the hot path.

Money is counted in nano-USD and only turned into a float when it is scraped.
"""

from __future__ import annotations

from collections.abc import Iterable


class Cells:
    """A counter family: label values -> integer. `scale` turns the integer into the exported unit."""

    __slots__ = ("_values", "documentation", "labels", "name", "scale")

    def __init__(self, name: str, documentation: str, labels: tuple[str, ...], scale: float = 1.0) -> None:
        self.name = name
        self.documentation = documentation
        self.labels = labels
        self.scale = scale
        self._values: dict[tuple[str, ...], int] = {}

    def add(self, labels: tuple[str, ...], amount: int = 1) -> None:
        """Add to a cell; label values in the order of `labels`."""
        values = self._values
        values[labels] = values.get(labels, 0) + amount

    def total(self) -> int:
        """The sum over all cells, as the integer it is."""
        return sum(self._values.values())

    def items(self) -> Iterable[tuple[tuple[str, ...], int]]:
        """A copy of the cells, safe to read while others add."""
        return list(self._values.items())
