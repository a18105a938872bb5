"""Several steps with the same lanes in closed form: when each ends, and how many have ended.

A step's time grows by the same amount with each token of context, so step i ends at a quadratic in i, rounded to whole
nanoseconds from one anchor. Step ends therefore do not depend on when anybody asks, nor on where the segment is cut.
"""

from __future__ import annotations

from math import sqrt


class Segment:
    """`steps` steps from `start_ns`; the first takes `first_ns`, each further one `slope_ns` more.

    `done` of them are accounted for, the last of which ended at `anchor_ns`. One object is planned over and over.
    """

    __slots__ = ("anchor_ns", "done", "first_ns", "slope_ns", "start_ns", "steps")

    def __init__(self) -> None:
        self.start_ns = self.anchor_ns = 0
        self.first_ns = self.slope_ns = 0.0
        self.steps = self.done = 0

    def plan(self, start_ns: int, first_ns: float, slope_ns: float, steps: int) -> int:
        """Begin anew; returns when the last step ends."""
        self.start_ns = self.anchor_ns = start_ns
        self.first_ns = first_ns if first_ns > 1.0 else 1.0
        self.slope_ns = slope_ns
        self.steps = steps
        self.done = 0
        return self.end_of(steps)

    def end_of(self, step: int) -> int:
        """When that step (from 1) ends."""
        return self.start_ns + int(step * (self.first_ns + 0.5 * self.slope_ns * (step - 1)) + 0.5)

    def cut(self, steps: int) -> int:
        """End after so many steps if not before; returns when."""
        if steps < self.steps:
            self.steps = steps
        return self.end_of(self.steps)

    def last_end_by(self, now_ns: int) -> int:
        """When the last step ended that had by then: its own, or the one before the segment."""
        if now_ns <= self.start_ns:
            return self.start_ns
        return self.end_of(step) if (step := self.steps_by(now_ns)) else self.start_ns

    def steps_by(self, now_ns: int) -> int:
        """How many steps have ended by then; one that ends exactly then has."""
        elapsed_ns = now_ns - self.start_ns
        half_ns = self.first_ns - 0.5 * self.slope_ns
        step = int(2 * elapsed_ns / (half_ns + sqrt(half_ns * half_ns + 2 * self.slope_ns * elapsed_ns)))
        # The float is off by one at most; the integer step ends decide.
        step = min(max(step, self.done), self.steps)
        while step < self.steps and self.end_of(step + 1) <= now_ns:
            step += 1
        while step > self.done and self.end_of(step) > now_ns:
            step -= 1
        return step
