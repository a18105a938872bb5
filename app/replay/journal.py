"""The decision log: a line for each decision, the same bytes for the same trace, configuration and seed."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from app.fleet.fleet import Fleet
from app.routing.types import Decision, Reservation, RouteRequest


class Lines:
    """Lines of a new file. Where it takes no more (a full disk), `problem` says so and a run goes on without it."""

    def __init__(self, path: Path) -> None:
        """Raises: OSError where it cannot be opened."""
        self.problem: OSError | None = None
        self._file = path.open("w", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError as failed:
            self.problem = self.problem or failed

    def write(self, text: str) -> None:
        """Add it, unless the file has failed already."""
        if self.problem is None:
            try:
                self._file.write(text)
            except OSError as failed:
                self.problem = failed


class JournalDesk:
    """Decides at the fleet and writes down what was decided:

    time ns, decision, prompt tokens, backend or -, reason, candidates, TTFT, its q90, TPOT, its q90 (s), cost (nUSD).
    """

    def __init__(self, fleet: Fleet, lines: Lines) -> None:
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
