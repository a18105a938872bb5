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
JUDGED_EVERY = 4


class Outliers:
    """Answer times of every deployment."""

    def __init__(self) -> None:
        self._ratios: dict[tuple[str, str], deque[float]] = {}
        self._answers = 0

    def answered(self, backend: str, model: str, ttft_s: float, predicted_s: float) -> bool:
        """Note an answer; True if the backend has become an outlier (looked at at every 4th late answer of all)."""
        ratios = self._ratios.get((model, backend))
        if ratios is None:
            ratios = self._ratios[model, backend] = deque(maxlen=KEPT)
        ratio = log(ttft_s / predicted_s)
        ratios.append(ratio)
        if ratio <= 0 or len(ratios) < FEWEST_ANSWERS:
            return False
        self._answers += 1
        if self._answers % JUDGED_EVERY:
            return False  # comparing medians takes longer than all else here
        peers = [
            median(other)
            for (of, name), other in self._ratios.items()
            if of == model and name != backend and len(other) >= FEWEST_ANSWERS
        ]
        return bool(peers) and median(ratios) - median(peers) > log(FACTOR)

    def forget(self, backend: str) -> None:
        """It is to be judged anew, by 20 new answers."""
        for key in [key for key in self._ratios if key[1] == backend]:
            del self._ratios[key]
