"""Misbehaviour on demand: which request goes wrong, and how. Pure: a seed and numbers in, a fault or None out.

A plan is a list of rules. For each request, in the plan's order, the first rule whose window is open and whose draw
falls below its share applies; the draw follows from (seed, request number, rule), so the same plan hits the same
requests in every run. What a fault does to bytes is the server's part (`app.emulate`).

    refuse              the connection is closed without an answer
    http_error          an HTTP `status` (429, 500, 503, 401 ...), with Retry-After if `retry_after_s` is given
    hang                nothing more for `hang_s` (None = never) after `after_chunks` chunks; 0 = no first byte
    drip                bytes trickle: `chunk_bytes` at a time, `pause_s` apart
    cut                 the connection is closed after `after_chunks` chunks (an answer in one piece: after half of it)
    malformed           the chunk after `after_chunks` is broken JSON (an answer in one piece: its first half)
    missing_usage       the answer does not say how many tokens it took
    wrong_content_type  200, but a page of HTML
    slow                everything takes `factor` times as long as the engine did
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

FaultKind = Literal[
    "refuse", "http_error", "hang", "drip", "cut", "malformed", "missing_usage", "wrong_content_type", "slow"
]
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one request. Each kind reads only the parameters it is documented with."""

    kind: FaultKind
    status: int = 503
    retry_after_s: float | None = None
    hang_s: float | None = None
    chunk_bytes: int = 16
    pause_s: float = 0.05
    after_chunks: int = 0
    factor: float = 2.0


@dataclass(frozen=True, slots=True)
class Rule:
    """A fault, the share of requests it hits, and the window in which it does (seconds since the plan was set)."""

    fault: Fault
    share: float = 1.0
    from_s: float = 0.0
    until_s: float | None = None

    def open_at(self, elapsed_s: float) -> bool:
        """Whether the window is open."""
        return self.from_s <= elapsed_s and (self.until_s is None or elapsed_s < self.until_s)


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Rules in order of precedence."""

    rules: Sequence[Rule] = ()
    seed: int = 0

    def pick(self, number: int, elapsed_s: float) -> Fault | None:
        """What goes wrong with request `number`, arriving `elapsed_s` after the plan was set."""
        for place, rule in enumerate(self.rules):
            if rule.open_at(elapsed_s) and self._draw(number, place) < rule.share:
                return rule.fault
        return None

    def _draw(self, number: int, place: int) -> float:
        return random.Random(f"{self.seed}/{number}/{place}").random()


NO_FAULTS = FaultPlan()
