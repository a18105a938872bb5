"""An attempt's place at a backend and what is learned from it. No I/O and no clock: real and virtual time share it."""

from __future__ import annotations

from typing import Literal

from app.dispatch.commands import Ask
from app.fleet.fleet import Fleet
from app.routing.types import Candidate, Decision, Outcome
from backends.errors import BackendError
from backends.types import Usage

AttemptEnd = Literal["ok", "cancelled", "failed"]


class Flight:
    """Holds a reservation from dispatch until `ended`; times are those of whoever reports them."""

    __slots__ = (
        "_fleet",
        "_read_s",
        "_reservation",
        "_ticket",
        "chosen",
        "decision",
        "dispatched_ns",
        "end",
        "ended_ns",
        "error",
        "first_token_ns",
        "number",
        "why",
    )  # fmt: skip

    def __init__(self, ask: Ask, fleet: Fleet, now_ns: int) -> None:
        chosen = ask.decision.chosen
        assert chosen is not None, "what is asked was chosen"
        self.number = ask.number
        self.why = ask.why
        self.decision: Decision = ask.decision
        self.chosen: Candidate = chosen
        self.dispatched_ns = now_ns
        self.first_token_ns: int | None = None
        self.ended_ns: int | None = None
        self.end: AttemptEnd | None = None
        self.error: BackendError | None = None
        self._reservation = ask.reservation
        self._read_s = 0.0
        self._fleet = fleet
        self._ticket = fleet.health.begin(chosen.view.name, now_ns)

    def first_token(self, now_ns: int) -> None:
        """The prompt has been read, and the first token of the answer was seen."""
        self.first_token_ns = now_ns
        self._fleet.first_token(self._reservation, now_ns)
        self._read_s = self._fleet.state.load(self.chosen.view.name).reading.read_by(now_ns)
        if self._fleet.state.gates:  # a probe has its answer now; its last token may be minutes away
            self._ticket = self._fleet.health.began(self.chosen, self._ticket, self.ttft_s(), now_ns)
        self._fleet.answers(self.chosen.view.name, now_ns)

    def ended(self, end: AttemptEnd, now_ns: int, error: BackendError | None = None) -> None:
        """Give the place back. Called once."""
        self.end, self.ended_ns, self.error = end, now_ns, error
        if self.first_token_ns is None:
            self._fleet.first_token(self._reservation, now_ns)
        fleet, name = self._fleet, self.chosen.view.name
        if end == "failed":
            fleet.troubles.failed(name, error, now_ns)
            stands = fleet.warmth(name, now_ns) if fleet.state.warmth else None
            fleet.health.failed(name, self._ticket, error, now_ns, 0.0 if stands is None else stands.warm_in_s)
        elif end == "ok":
            fleet.answers(name, now_ns)  # whoever did not stream has shown no first token
            fleet.troubles.answered(name)
            fleet.health.answered(self.chosen, self._ticket, self.ttft_s(), now_ns)
        else:
            fleet.health.abandoned(name, self._ticket, now_ns)
        fleet.release(self._reservation, now_ns)

    def abandoned(self, now_ns: int) -> None:
        """Nothing was asked after all: the place is free again, and nothing is learned."""
        self._fleet.first_token(self._reservation, now_ns)
        self._fleet.health.abandoned(self.chosen.view.name, self._ticket, now_ns)
        self._fleet.release(self._reservation, now_ns)

    def ttft_s(self) -> float | None:
        """Dispatch to first token; None if none was seen."""
        return None if self.first_token_ns is None else (self.first_token_ns - self.dispatched_ns) / 1e9

    def tpot_s(self, tokens: float) -> float | None:
        """(end - first token) / (tokens per choice - 1); None below two tokens."""
        if self.first_token_ns is None or self.ended_ns is None or tokens < 2:
            return None
        return (self.ended_ns - self.first_token_ns) / 1e9 / (tokens - 1)

    def learn(self, usage: Usage, choices: int, prompt_chars: int) -> None:
        """Completed answers teach everything; cancelled ones only what was seen (their first token)."""
        if self.end == "failed" or self.ended_ns is None:
            return
        completed = self.end == "ok"
        tokens = usage.completion_tokens / choices
        self._fleet.observe(
            Outcome(
                self.decision.request,
                self.chosen,
                self.ttft_s(),
                self.tpot_s(tokens) if completed else None,
                prompt_chars,
                usage.prompt_tokens + usage.cached_tokens if completed else None,
                usage.cached_tokens if completed else None,
                round(tokens) if completed else None,
                self._fleet.state.load(self.chosen.view.name).reading.read_by(self.ended_ns) - self._read_s,
            ),
            self.ended_ns,
        )
