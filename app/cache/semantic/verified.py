"""From which similarity on a cached answer is trusted, learned from answers that were compared.

In the spirit of vCache (arXiv 2502.03771), with another bound. Candidates for the threshold are a fixed grid. For each
the pairs at least as similar and how many of them were wrong are counted, and a candidate is trusted when
the wrong share is at most `max_false_hit_rate` with `confidence`:

    M(n, k) = B(a + k, b + n - k) / B(a, b) / (r^k (1 - r)^(n - k))        r the allowed rate, k wrong of n

is a martingale if the true rate is r, whatever a and b were fixed beforehand, so it ever reaches m / (1 - confidence)
with probability (1 - confidence) / m at most (Ville): looking after every pair and at all m candidates is paid for. The
lowest trusted candidate is the threshold. Partitions share what they learn as the prior (a, b) of a new one, taken
before its first pair: a wrong prior makes it learn slower, never trust wrongly.

It assumes that pairs of a partition are alike over time, and that more similar ones are not wrong more often. Against
the first failing, a share `explore` of would-be hits is compared for ever, and a candidate that the last WINDOW pairs
speak against starts anew. Before there is trust every pair is compared: its answer is generated anyway.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import comb, exp, lgamma, log, log1p
from typing import Any, Literal

Decision = Literal["hit", "verify", "miss"]

GRID = (0.80, 0.84, 0.88, 0.90, 0.92, 0.94, 0.96, 0.98)
WINDOW = 256
ALARM = 0.01
"""A window as bad as this is unlikely where the rate is kept: trust starts anew. A false alarm costs hits only."""
PRIOR_STRENGTH = 10.0
"""Pairs that the other partitions may count for, in units of 1 / rate."""


@dataclass(slots=True)
class _Partition:
    """Counts by candidate, the priors they began with, and the last pairs as (candidates passed, wrong)."""

    seen: list[int]
    wrong: list[int]
    priors: list[tuple[float, float]]
    recent: deque[tuple[int, bool]] = field(default_factory=lambda: deque(maxlen=WINDOW))


class VerifiedThreshold:
    """Decides what may be served; told of every pair whose answers were compared. Cold it serves nothing."""

    def __init__(
        self,
        max_false_hit_rate: float,
        confidence: float = 0.95,
        explore: float = 0.05,
        grid: Sequence[float] = GRID,
        max_partitions: int = 1024,
    ) -> None:
        if not (0 < max_false_hit_rate < 1 and 0 < confidence < 1 and 0 <= explore <= 1):
            raise ValueError("rates, the confidence and the explored share are between 0 and 1")
        if not grid or list(grid) != sorted(set(grid)) or max_partitions < 1:
            raise ValueError("the grid is of rising similarities, and there is at least one partition")
        self._rate = max_false_hit_rate
        self._needed = log(len(grid) / (1 - confidence))
        self._explore = explore
        self._grid = tuple(grid)
        self._max_partitions = max_partitions
        self._partitions: OrderedDict[bytes, _Partition] = OrderedDict()

    def decide(self, partition: bytes, similarity: float, draw: float) -> Decision:
        """`draw` is uniform in [0, 1): below `explore` a would-be hit is generated anyway and compared."""
        if similarity < self._grid[0]:
            return "miss"
        threshold = self.threshold(partition)
        if threshold is None or similarity < threshold or draw < self._explore:
            return "verify"
        return "hit"

    def threshold(self, partition: bytes) -> float | None:
        """The lowest trusted similarity; None before there is one."""
        kept = self._partitions.get(partition)
        if kept is None:
            return None
        return next((self._grid[place] for place in range(len(self._grid)) if self._trusted(kept, place)), None)

    def observe(self, partition: bytes, similarity: float, correct: bool) -> None:
        """A pair was compared: whether the cached answer would have done."""
        passed = sum(similarity >= candidate for candidate in self._grid)
        if not passed:
            return
        kept = self._partition(partition)
        kept.recent.append((passed, not correct))
        for place in range(passed):
            kept.seen[place] += 1
            kept.wrong[place] += not correct
        if not correct:
            self._distrust(kept, passed)

    def state(self) -> dict[str, Any]:
        """All that was learned, as plain data; partitions as hexadecimal."""
        return {
            "grid": list(self._grid),
            "partitions": {
                partition.hex(): {
                    "seen": list(kept.seen),
                    "wrong": list(kept.wrong),
                    "priors": [list(prior) for prior in kept.priors],
                    "recent": [[passed, int(wrong)] for passed, wrong in kept.recent],
                }
                for partition, kept in self._partitions.items()
            },
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` told; of another grid nothing can be taken over.

        Raises: ValueError, KeyError, TypeError for what `state` did not write.
        """
        if tuple(state["grid"]) != self._grid:
            raise ValueError("learned for another grid")
        restored: OrderedDict[bytes, _Partition] = OrderedDict()
        for name, told in list(state["partitions"].items())[-self._max_partitions :]:
            kept = _Partition(
                [int(count) for count in told["seen"]],
                [int(count) for count in told["wrong"]],
                [(float(a), float(b)) for a, b in told["priors"]],
            )
            kept.recent.extend((int(passed), bool(wrong)) for passed, wrong in told["recent"])
            sizes = {len(kept.seen), len(kept.wrong), len(kept.priors)}
            counts = zip(kept.seen, kept.wrong, kept.priors, strict=False)
            if sizes != {len(self._grid)} or any(not 0 <= k <= n or min(p) <= 0 for n, k, p in counts):
                raise ValueError(f"partition {name}: counts that cannot be")
            restored[bytes.fromhex(name)] = kept
        self._partitions = restored

    def _partition(self, partition: bytes) -> _Partition:
        kept = self._partitions.get(partition)
        if kept is None:
            places = range(len(self._grid))
            kept = _Partition([0 for _ in places], [0 for _ in places], [self._prior(place) for place in places])
            self._partitions[partition] = kept
            if len(self._partitions) > self._max_partitions:
                self._partitions.popitem(last=False)
        self._partitions.move_to_end(partition)
        return kept

    def _prior(self, place: int) -> tuple[float, float]:
        """What the partitions so far say of a candidate, on top of the prior of an empty cache."""
        seen = sum(kept.seen[place] for kept in self._partitions.values())
        wrong = sum(kept.wrong[place] for kept in self._partitions.values())
        scale = min(1.0, PRIOR_STRENGTH / self._rate / seen) if seen else 0.0
        return 1 + scale * wrong, 1 / self._rate + scale * (seen - wrong)

    def _trusted(self, kept: _Partition, place: int) -> bool:
        seen, wrong = kept.seen[place], kept.wrong[place]
        return wrong < self._rate * seen and _evidence(seen, wrong, self._rate, kept.priors[place]) >= self._needed

    def _distrust(self, kept: _Partition, passed: int) -> None:
        for place in range(passed):
            recent = [wrong for reached, wrong in kept.recent if reached > place]
            if _tail(len(recent), sum(recent), self._rate) < ALARM:
                # The window stays: it goes on speaking against the candidate until it has passed.
                kept.seen[place], kept.wrong[place] = len(recent), sum(recent)


def samples_until_first_hit(max_false_hit_rate: float, confidence: float = 0.95, candidates: int = len(GRID)) -> int:
    """How many pairs, none of them wrong, a candidate needs at least before it is trusted, in an empty cache."""
    needed = log(candidates / (1 - confidence))
    prior = (1.0, 1 / max_false_hit_rate)
    low, high = 0, 1
    while _evidence(high, 0, max_false_hit_rate, prior) < needed:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        enough = _evidence(middle, 0, max_false_hit_rate, prior) >= needed
        low, high = (low, middle) if enough else (middle, high)
    return high


def _evidence(seen: int, wrong: int, rate: float, prior: tuple[float, float]) -> float:
    """log M: how much the counts speak against the rate being `rate`."""
    a, b = prior
    mixture = _log_beta(a + wrong, b + seen - wrong) - _log_beta(a, b)
    return mixture - wrong * log(rate) - (seen - wrong) * log1p(-rate)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def _tail(seen: int, wrong: int, rate: float) -> float:
    """How likely so many wrong ones, or more, are at this rate (binomial)."""
    below = sum(
        exp(log(comb(seen, count)) + count * log(rate) + (seen - count) * log1p(-rate)) for count in range(wrong)
    )
    return max(0.0, 1 - below)
