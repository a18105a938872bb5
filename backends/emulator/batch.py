"""The lanes being decoded, as sums: nothing here looks at every lane.

A lane knows at which decode step it joined, so its tokens follow from one counter; ends come from a heap over that
counter, shares of busy time from a running sum. Who leaves before its end leaves an entry in the heap, to be dropped
when it comes up or when there are too many.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from backends.emulator.jobs import OUT_OF_BATCH, Job, Lane

STALE_ENDS = 64


class Batch:
    """`lanes` in it with `context_tokens` of KV between them, at decode step `count`; `share_sum_ns` is what a lane
    that was in it from the beginning would have been billed."""

    __slots__ = ("_ends", "_joins", "_stale", "context_tokens", "count", "lanes", "share_sum_ns")

    def __init__(self) -> None:
        self.lanes = 0
        self.context_tokens = 0
        self.count = 0
        self.share_sum_ns = 0
        self._ends: list[tuple[int, int, Lane, Job]] = []
        self._joins = 0
        self._stale = 0

    def step(self, steps: int, share_ns: int) -> None:
        """Every lane has made so many tokens, at a share of busy time for all of them."""
        self.count += steps
        self.share_sum_ns += share_ns
        self.context_tokens += self.lanes * steps

    def join(self, lane: Lane, job: Job) -> None:
        """A lane enters with its next token."""
        produced = lane.produced
        lane.joined = joined = self.count - produced
        lane.end = end = joined + lane.length - 1
        lane.share_from = self.share_sum_ns
        self.lanes += 1
        self.context_tokens += job.prompt_tokens + produced + 1
        self._joins += 1
        heappush(self._ends, (end, self._joins, lane, job))

    def leave(self, lane: Lane, job: Job) -> None:
        """A lane leaves before its end."""
        self._let_go(lane, job, self.count - lane.joined + 1)
        self._stale += 1
        if self._stale > STALE_ENDS + self.lanes:
            self._ends = [entry for entry in self._ends if entry[2].end == entry[0]]
            heapify(self._ends)
            self._stale = 0

    def pop_ended(self) -> tuple[Lane, Job] | None:
        """A lane that has made its last token, taken out; None when there is no other."""
        ends, count = self._ends, self.count
        while ends and ends[0][0] <= count:
            end, _, lane, job = heappop(ends)
            if lane.end == end:
                self._let_go(lane, job, lane.length)
                return lane, job
            self._stale -= 1
        return None

    def steps_to_next_end(self) -> int:
        """Decode steps until the next lane ends; there must be one."""
        ends = self._ends
        while ends[0][2].end != ends[0][0]:
            heappop(ends)
            self._stale -= 1
        return ends[0][0] - self.count

    def _let_go(self, lane: Lane, job: Job, produced: int) -> None:
        lane.produced = produced
        lane.end = OUT_OF_BATCH
        self.lanes -= 1
        self.context_tokens -= job.prompt_tokens + produced
        job.completion_ns += self.share_sum_ns - lane.share_from
