"""Vectors of one process, by partition: exact cosine, bounded in entries and bytes, least recently used goes first.

What may share an answer is the caller's to say: an entry is only ever compared with those of its own partition.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

from app.cache.semantic.embedding import imported

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

ENTRY_OVERHEAD_BYTES = 320
"""What an entry takes beside its row: two table slots, its id in both, its place."""
FIRST_ROWS = 4


class Match(NamedTuple):
    """An entry and how near it is: 1 for the same direction."""

    entry_id: bytes
    similarity: float


class _Rows:
    """The vectors of a partition, without gaps: a removed row is filled with the last one."""

    def __init__(self, numpy: Any, dimensions: int) -> None:
        self._numpy = numpy
        self.matrix: Vector = numpy.empty((FIRST_ROWS, dimensions), dtype=numpy.float32)
        self.ids: list[bytes] = []

    def full(self) -> bool:
        return len(self.ids) == len(self.matrix)

    def resize(self, rows: int) -> None:
        matrix: Vector = self._numpy.empty((rows, self.matrix.shape[1]), dtype=self._numpy.float32)
        matrix[: len(self.ids)] = self.matrix[: len(self.ids)]
        self.matrix = matrix


class VectorIndex:
    """Rows that point the same way are near; give it rows of length one."""

    def __init__(self, dimensions: int, max_entries: int, max_bytes: int) -> None:
        """Raises: StartupError where the extra is not installed."""
        self._numpy: Any = imported("numpy")
        self._dimensions = dimensions
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._partitions: dict[bytes, _Rows] = {}
        self._places: OrderedDict[bytes, tuple[bytes, int]] = OrderedDict()
        self.used_bytes = 0

    def __len__(self) -> int:
        return len(self._places)

    def add(self, partition: bytes, entry_id: bytes, vector: Vector) -> list[bytes]:
        """Put an entry, in the place of one of the same id; returns what had to leave for it."""
        self.remove(entry_id)
        row_bytes = 4 * self._dimensions
        dropped: list[bytes] = []
        while True:
            rows = self._partitions.get(partition)
            growth = (FIRST_ROWS if rows is None else len(rows.matrix) if rows.full() else 0) * row_bytes
            needed = self.used_bytes + growth + ENTRY_OVERHEAD_BYTES
            if needed <= self._max_bytes and len(self._places) < self._max_entries:
                break
            if not self._places:
                return [*dropped, entry_id]  # not one fits
            oldest = next(iter(self._places))
            self.remove(oldest)
            dropped.append(oldest)
        if rows is None:
            rows = self._partitions[partition] = _Rows(self._numpy, self._dimensions)
        elif growth:
            rows.resize(2 * len(rows.matrix))
        rows.matrix[len(rows.ids)] = vector
        self._places[entry_id] = (partition, len(rows.ids))
        rows.ids.append(entry_id)
        self.used_bytes = needed
        return dropped

    def nearest(self, partition: bytes, vector: Vector, k: int) -> list[Match]:
        """At most `k` entries, the nearest first. Does not count as a use."""
        rows = self._partitions.get(partition)
        if rows is None or k < 1:
            return []
        similarities = rows.matrix[: len(rows.ids)] @ vector
        order = self._numpy.argsort(-similarities, kind="stable")[:k]
        return [Match(rows.ids[place], float(similarities[place])) for place in order]

    def used(self, entry_id: bytes) -> None:
        """An entry was of use: it leaves last."""
        if entry_id in self._places:
            self._places.move_to_end(entry_id)

    def remove(self, entry_id: bytes) -> None:
        """Forget an entry; one that is not there is no error."""
        place = self._places.pop(entry_id, None)
        if place is None:
            return
        partition, row = place
        rows = self._partitions[partition]
        last = rows.ids.pop()
        if last != entry_id:
            rows.ids[row] = last
            rows.matrix[row] = rows.matrix[len(rows.ids)]
            self._places[last] = (partition, row)  # keeps its turn: the key was there
        before = rows.matrix.nbytes
        if not rows.ids:
            del self._partitions[partition]
            self.used_bytes -= before
        elif len(rows.matrix) > FIRST_ROWS and len(rows.ids) <= len(rows.matrix) // 4:
            rows.resize(len(rows.matrix) // 2)
            self.used_bytes -= before - rows.matrix.nbytes
        self.used_bytes -= ENTRY_OVERHEAD_BYTES
