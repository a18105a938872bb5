"""A scripted desk: decisions come from a list, reservations are counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.dispatch.commands import Ask, Command
from app.dispatch.machine import Dispatch
from app.dispatch.terms import Terms
from app.routing.types import Candidate, Decision, Reservation, RouteRequest
from app.routing.warmth import warmed_up
from tests.builders import make_candidate, make_request, make_view

S = 1_000_000_000


class ScriptedDesk:
    """Chooses the first that is not excluded; `plan` holds reasons that stand in for a choice, one a decision.
    `warm_up_s` is how long each has yet to warm up."""

    def __init__(
        self, *names: str, plan: Sequence[str] = (), contexts: dict[str, int] | None = None, warm_up_s: float = 0.0
    ) -> None:
        contexts = contexts or {}
        self.candidates: list[Candidate] = [
            make_candidate(make_view(name, context_tokens=contexts.get(name, 8192))) for name in names
        ]
        if warm_up_s:
            left_ns = int(warm_up_s * S)
            self.candidates = [
                each._replace(prediction=warmed_up(each.prediction, left_ns)) for each in self.candidates
            ]
        self.plan = list(plan)
        self.asked: list[RouteRequest] = []

    def decide(self, request: RouteRequest, now_ns: int) -> tuple[Decision, Reservation | None]:
        self.asked.append(request)
        left = tuple(each for each in self.candidates if each.view.name not in request.exclude)
        rejected = tuple((name, "already_tried") for name in sorted(request.exclude))
        reason = self.plan.pop(0) if self.plan else "only_candidate"
        chosen = left[0] if left and reason not in ("hold", "shed") else None
        if not left:
            reason = "no_candidates"
        made = Decision(f"d-{len(self.asked)}", request, "test", "cafe", 0, chosen, reason, left, rejected)
        return made, None if chosen is None else Reservation(chosen.view.name, 1, 10, None)


def dispatch(desk: ScriptedDesk, terms: Terms | None = None, stream: bool = True, **fields: Any) -> Dispatch:
    return Dispatch(make_request(**fields), "chat", desk, terms or Terms(), stream)


def told(commands: Sequence[Command]) -> list[Any]:
    """Commands as short words: asks by backend, the rest by name."""
    words: list[Any] = []
    for command in commands:
        if isinstance(command, Ask):
            assert command.decision.chosen is not None
            words.append(("ask", command.decision.chosen.view.name, command.why))
        else:
            words.append((type(command).__name__.lower(), *command))
    return words
