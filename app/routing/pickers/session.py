"""Whoever served this conversation before, while that keeps the promise; else by score, as `max_score`.

A session's backend has its earlier turns in the prefix cache. It is kept unless it is infeasible and another is not;
a session without a memory (or a request without a session) goes by rendezvous: each backend's score is multiplied by a
number in [1, 1.05) drawn from (session, backend), so that equals are told apart in the same way by every gateway.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from app.routing.draws import uniform
from app.routing.plugins import Pick, Picker, Turn
from app.routing.types import Candidate, RouteRequest

BY_SCORE = True
"""This picker needs scorers; one without this mark does not look at them."""


def make(sessions: float = 10_000) -> Picker:
    """At most about `sessions` conversations are remembered, by a hash of their name."""
    slots = max(1, int(sessions))

    def pick(request: RouteRequest, candidates: Sequence[Candidate], turn: Turn) -> Pick:
        if len(candidates) == 1:
            return Pick(0, "only_candidate")
        if request.session is None:
            return Pick(_best(candidates, turn.seed), "best_score")
        hashed = crc32(request.session.encode("utf-8", "surrogatepass"))
        name = f"session:{turn.key}:{hashed % slots}"
        before = turn.state.sticky.get(name)
        anybody = any(candidate.feasible for candidate in candidates)
        for place, candidate in enumerate(candidates):
            if candidate.view.name == before and (candidate.feasible or not anybody):
                return Pick(place, "same_session")
        winner = _best(candidates, hashed)
        return Pick(winner, "best_score", 0.0, ((name, candidates[winner].view.name),))

    return pick


def _best(candidates: Sequence[Candidate], seed: int) -> int:
    return max(range(len(candidates)), key=lambda place: _score(candidates[place], seed))


def _score(candidate: Candidate, seed: int) -> float:
    total = sum(value for _, value in candidate.scores)
    return total * (1.0 + 0.05 * uniform(seed ^ crc32(candidate.view.name.encode())))
