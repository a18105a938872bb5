"""The three interfaces a policy is made of. Implementations are a file each, found by `discovery`.

A filter drops, a scorer grades, a picker chooses. All are synchronous and pure. A scorer's scale is absolute
(it looks at one candidate, never at the others), so removing a loser cannot change who wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from app.routing.types import BackendView, Candidate, RouteRequest


class Filter(Protocol):
    """`reject(request, view)` returns a reason code, or None to keep the backend."""

    def __call__(self, request: RouteRequest, view: BackendView) -> str | None: ...


class Scorer(Protocol):
    """Grades one candidate from 0 (worst) to 1 (best)."""

    def __call__(self, request: RouteRequest, candidate: Candidate) -> float: ...


class Pick(NamedTuple):
    """The winner's position, the reason (a closed set, it becomes a metric label) and the margin: how much
    better the winner is than the runner-up, relative to the runner-up, 0 when there is none."""

    position: int
    reason: str
    margin: float
    cursor: int | None = None


class Picker(Protocol):
    """Chooses among scored candidates; `seed` makes ties fair, `cursor` is where a turn-taking picker stands."""

    def __call__(self, request: RouteRequest, candidates: Sequence[Candidate], seed: int, cursor: int) -> Pick: ...
