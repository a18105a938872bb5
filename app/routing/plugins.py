"""The three interfaces a policy is made of. Implementations are a file each, found by `discovery`.

A filter drops, a scorer grades, a picker chooses. All are synchronous and pure. A scorer's scale is absolute
(it looks at one candidate, never at the others), so removing a loser cannot change who wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from app.routing.field import Field
from app.routing.state import RoutingState
from app.routing.types import BackendView, Candidate, Facts, RouteRequest, Sticky


class Filter(Protocol):
    """`reject(request, view)` returns a reason code, or None to keep the backend.

    A filter's module may have `concerns(request, facts) -> bool` besides: False = it would keep every backend, so that
    it need not be asked about each.
    """

    def __call__(self, request: RouteRequest, view: BackendView) -> str | None: ...


class Concern(Protocol):
    """Whether a filter could reject anything for this request."""

    def __call__(self, request: RouteRequest, facts: Facts) -> bool: ...


class HardFilter(NamedTuple):
    """A filter by name; `concerns` None = it must always be asked."""

    name: str
    reject: Filter
    concerns: Concern | None


class Scorer(Protocol):
    """Grades one candidate from 0 (worst) to 1 (best)."""

    def __call__(self, request: RouteRequest, candidate: Candidate) -> float: ...


class Turn:
    """What a picker may look at besides the candidates. `seed` makes ties fair, `key` (policy and model) is what it
    names its sticky notes by; it changes nothing itself. `next_nusd` is the lowest cost of those that were not
    looked at (None = all were)."""

    __slots__ = ("key", "next_nusd", "now_ns", "seed", "state")

    def __init__(self, state: RoutingState, now_ns: int, seed: int, key: str) -> None:
        self.state = state
        self.now_ns = now_ns
        self.seed = seed
        self.key = key
        self.next_nusd: float | None = None

    def note(self, name: str, default: float) -> float:
        """A number it left behind earlier."""
        return float(self.state.sticky.get(f"{name}:{self.key}", default))


class Pick(NamedTuple):
    """The winner's position, the reason (a closed set, it becomes a metric label) and the margin: how much
    better the winner is than the runner-up, relative to the runner-up, 0 when there is none.

    `position` None = nobody now: `reason` is `shed` (`retry_after_s` says when to come back) or `hold`. `sticky` are
    notes to keep for the next turn.
    """

    position: int | None
    reason: str
    margin: float = 0.0
    sticky: Sticky = ()
    retry_after_s: float | None = None


class Seek(Protocol):
    """Looks at those of a field that may win under a picker, and at no others."""

    def __call__(self, request: RouteRequest, field: Field, turn: Turn) -> None: ...


class Picker(Protocol):
    """Chooses among scored candidates. One that need not see all of them has a `seek: Seek` besides."""

    def __call__(self, request: RouteRequest, candidates: Sequence[Candidate], turn: Turn) -> Pick: ...
