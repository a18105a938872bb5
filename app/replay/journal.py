"""The decision log: a line for each decision, the same bytes for the same trace, configuration and seed."""

from __future__ import annotations

from typing import TextIO

from app.fleet.fleet import Fleet
from app.routing.types import Decision, Reservation, RouteRequest


class JournalDesk:
    """Decides at the fleet and writes down what was decided:

    time ns, decision, prompt tokens, backend or -, reason, candidates, TTFT, its q90, TPOT, its q90 (s), cost (nUSD).
    """

    def __init__(self, fleet: Fleet, lines: TextIO) -> None:
        self._fleet = fleet
        self._lines = lines

    def decide(self, request: RouteRequest, now_ns: int) -> tuple[Decision, Reservation | None]:
        """As `Fleet.decide`."""
        decided = self._fleet.decide(request, now_ns)
        self._lines.write(line(decided[0], now_ns))
        return decided


def line(decision: Decision, now_ns: int) -> str:
    """A decision as text; floats as Python repeats them exactly."""
    head = f"{now_ns} {decision.id} {decision.request.prompt_tokens}"
    if decision.chosen is None:
        return f"{head} - {decision.reason} {len(decision.candidates)}\n"
    prediction = decision.chosen.prediction
    figures = " ".join(
        map(
            repr,
            (prediction.ttft_s, prediction.ttft_q90_s, prediction.tpot_s, prediction.tpot_q90_s, prediction.cost_nusd),
        )
    )
    return f"{head} {decision.chosen.view.name} {decision.reason} {len(decision.candidates)} {figures}\n"
