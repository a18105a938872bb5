"""A router's picture of how a backend reads prompts: one engine step after another, so many tokens a step. Pure.

A router sees when it sends prompts and when their first tokens come back, and knows from the profile how long reading
takes and how much fits into a step. Prompts are read in the order they were sent, in steps of `budget_s` seconds of
reading besides the `step_s` that a step takes anyway; who is sent while a step runs is read in a later one. Positions
are seconds of reading since the beginning: `sent_s` has been dispatched, `read_s` has been read before the step in
progress, which reads `chunk_s` more from `start_ns` until about `end_ns`. A first token says for certain that a step
has ended, and how far.

Nothing of this is the emulator's: with a real server it is the same guess, checked by the same first tokens.
"""

from __future__ import annotations

from math import ceil, inf
from typing import NamedTuple

SAME_STEP_NS = 5_000_000
"""First tokens of one engine step arrive no further apart."""

LONGER = 1.3
"""A step that took that much longer than expected has read more than expected."""

MOST_STEPS = 64
"""How many steps without a sign of life are imagined before everything counts as read."""


class Pace(NamedTuple):
    """How a deployment reads just now, in seconds: what is left of a step without prompts, what a step takes besides
    reading, how much reading fits into a step; and how many steps after the one in progress a newcomer lets pass."""

    left_s: float
    step_s: float
    budget_s: float
    lag_steps: int


NOBODY = (None, 0)


class Reading:
    """The prompts on their way through one backend; `waiting` are those whose first token is awaited, by ticket, with
    the position at which they end and when they were sent. The last step known to have ended did at `ended_ns`."""

    __slots__ = ("chunk_s", "end_ns", "ended_ns", "pace", "read_s", "sent_s", "start_ns", "waiting")

    def __init__(self) -> None:
        self.sent_s = 0.0
        self.read_s = 0.0
        self.chunk_s = 0.0
        self.start_ns = 0
        self.end_ns = 0
        self.ended_ns = 0
        self.pace = Pace(0.0, 0.0, inf, 0)
        self.waiting: dict[int, tuple[float, int]] = {}

    @property
    def pending(self) -> int:
        """Prompts whose first token is awaited."""
        return len(self.waiting)

    def read_by(self, now_ns: int) -> float:
        """The position up to which prompts have been read by now, as far as can be told."""
        return self._at(now_ns)[0] if self.waiting else self.sent_s

    def takes_s(self, prompt_s: float, pace: Pace, now_ns: int) -> tuple[float, float, float]:
        """(until a prompt sent now has been read, how much of that is due to those before it, the position read up to),
        in seconds."""
        left_s, step_s, budget_s, lag = pace
        if not self.waiting:
            steps = lag + (1 if prompt_s <= budget_s else ceil(prompt_s / budget_s))
            return left_s + steps * step_s + prompt_s, 0.0, self.sent_s
        read_s, chunk_s, start_ns, end_ns = self._at(now_ns)
        if now_ns < start_ns - int(lag * step_s * 1e9):  # it still catches the step that is about to begin
            left_s, before_s, lag = (start_ns - now_ns) / 1e9, self.sent_s - read_s, 0
        elif now_ns < start_ns:  # that step has been scheduled, the one after it has not
            left_s, before_s, lag = (end_ns - now_ns) / 1e9, self.sent_s - read_s - chunk_s, 0
        elif chunk_s:
            left_s, before_s = (end_ns - now_ns) / 1e9, self.sent_s - read_s - chunk_s
        else:
            before_s = 0.0
        rest_s = (max(0.0, before_s - budget_s) if lag else before_s) + prompt_s
        steps = lag + (1 if rest_s <= budget_s else ceil(rest_s / budget_s))
        total_s = left_s + steps * step_s + before_s + prompt_s
        return total_s, left_s + before_s, read_s

    def send(self, ticket: int, prompt_s: float, pace: Pace, now_ns: int) -> None:
        """A prompt is on its way."""
        if not self.waiting:
            self.read_s = self.sent_s
            self.chunk_s, self.start_ns, self.end_ns = 0.0, 0, 0
        else:
            self.read_s, self.chunk_s, self.start_ns, self.end_ns = self._at(now_ns)
        self.pace = pace
        self.sent_s += prompt_s
        self.waiting[ticket] = (self.sent_s, now_ns)
        if not self.chunk_s:
            self.read_s = self.sent_s - prompt_s
            self._begin(now_ns + int((pace.left_s + pace.lag_steps * pace.step_s) * 1e9), self.sent_s)
        elif now_ns < self.start_ns - int(pace.lag_steps * pace.step_s * 1e9):
            self._begin(self.start_ns, self.sent_s)

    def first_token(self, ticket: int, now_ns: int) -> None:
        """A prompt has been read (or given up): a step has ended."""
        position_s, _ = self.waiting.pop(ticket, NOBODY)
        if position_s is None:
            return
        if not self.waiting:
            self.read_s, self.chunk_s = self.sent_s, 0.0
            return
        if abs(now_ns - self.ended_ns) <= SAME_STEP_NS and position_s <= self.read_s:
            return
        until_s = self.read_s + self.chunk_s
        lasted_s = (now_ns - self.start_ns) / 1e9 - self.pace.step_s
        if lasted_s > LONGER * self.chunk_s:  # whoever came soon after must have been read along
            until_s = min(self.sent_s, self.read_s + min(lasted_s, self.pace.budget_s))
        elif LONGER * lasted_s < self.chunk_s:  # what had been scheduled already was all that it read
            until_s = self.read_s + lasted_s
        self.read_s = until_s if self.read_s < position_s <= until_s else position_s
        self.ended_ns = now_ns
        self._next(self.start_ns, now_ns)

    def forget(self, ticket: int) -> None:
        """It was never read: it failed, or was called off."""
        self.waiting.pop(ticket, None)

    def _begin(self, start_ns: int, ready_s: float) -> None:
        """A step begins, which reads up to `ready_s` at most."""
        pace = self.pace
        self.start_ns = start_ns
        self.chunk_s = max(0.0, min(pace.budget_s, ready_s - self.read_s))
        self.end_ns = start_ns + int((pace.step_s + self.chunk_s) * 1e9)

    def _next(self, before_ns: int, start_ns: int) -> None:
        """The step after the one that began at `before_ns`."""
        self.chunk_s, self.start_ns, self.end_ns = self._follows(self.read_s, before_ns, start_ns)

    def _follows(self, read_s: float, before_ns: int, start_ns: int) -> tuple[float, int, int]:
        """(chunk, start, end) of the next step that reads, after one that began at `before_ns` and ended at `start_ns`.

        Where steps are scheduled ahead, what it reads was there when the one before it began; if nothing was, it reads
        nothing, and the one after it what was there when it began itself.
        """
        pace = self.pace
        ready_s = self._sent_by(before_ns) if pace.lag_steps else self.sent_s
        if ready_s <= read_s < self.sent_s:
            ready_s = self._sent_by(start_ns)
            start_ns += int(pace.step_s * 1e9)
            if ready_s <= read_s:
                ready_s = self.sent_s
        chunk_s = max(0.0, min(pace.budget_s, ready_s - read_s))
        return chunk_s, start_ns, start_ns + int((pace.step_s + chunk_s) * 1e9)

    def _sent_by(self, at_ns: int) -> float:
        """The position up to which prompts had been sent by then, of those still awaited."""
        for position_s, sent_ns in reversed(self.waiting.values()):
            if sent_ns <= at_ns:
                return position_s
        return 0.0

    def _at(self, now_ns: int) -> tuple[float, float, int, int]:
        """(read, chunk, start, end) as they should be by now, if steps have ended without a first token."""
        read_s, chunk_s, start_ns, end_ns = self.read_s, self.chunk_s, self.start_ns, self.end_ns
        for _ in range(MOST_STEPS):
            if not chunk_s or end_ns > now_ns:
                break
            read_s += chunk_s
            chunk_s, start_ns, end_ns = self._follows(read_s, start_ns, end_ns)
        return read_s, chunk_s, start_ns, end_ns
