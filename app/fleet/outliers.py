"""Backends that are much slower than predicted while their model's other backends are not. Pure: no clock, no I/O.

Of each deployment the log ratios of observed to predicted TTFT of its last answers are kept. One whose median exceeds
the median of its peers' medians by more than a factor of 3 is an outlier: everybody slow together is load, one alone is
ill.
"""

from __future__ import annotations

from collections import deque
from math import log
from statistics import median

KEPT = 32
FEWEST_ANSWERS = 20
FACTOR = 3.0
JUDGED_EVERY = 8


class Outliers:
    """Answer times of every deployment, by model and backend."""

    def __init__(self) -> None:
        self._ratios: dict[str, dict[str, deque[float]]] = {}
        self._answers: dict[tuple[str, str], int] = {}

    def answered(self, backend: str, model: str, ttft_s: float, predicted_s: float) -> bool:
        """Note an answer; True if the backend has become an outlier (looked at every 8 answers)."""
        by_backend = self._ratios.setdefault(model, {})
        ratios = by_backend.get(backend)
        if ratios is None:
            ratios = by_backend[backend] = deque(maxlen=KEPT)
        ratios.append(log(ttft_s / predicted_s))
        seen = self._answers[model, backend] = self._answers.get((model, backend), 0) + 1
        if seen % JUDGED_EVERY or len(ratios) < FEWEST_ANSWERS:
            return False
        peers = [
            median(other) for name, other in by_backend.items() if name != backend and len(other) >= FEWEST_ANSWERS
        ]
        return bool(peers) and median(ratios) - median(peers) > log(FACTOR)

    def forget(self, backend: str) -> None:
        """It is to be judged anew, by 20 new answers."""
        for by_backend in self._ratios.values():
            by_backend.pop(backend, None)
