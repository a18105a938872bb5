"""The accelerator's loop as a pure state machine: `submit`, `cancel`, `advance(until)`, `next_event_ns`.

Time is integer nanoseconds and never read from a clock; cutting `advance` at other moments changes nothing.
A step's cost does not grow with the sequences in it: lanes (one per choice) know at which decode step they joined,
so their tokens follow from a counter, their end from a heap, and their share of busy time from a running sum.

Billing: each step's time is split evenly over the tokens it served. What does not divide is carried into the next
step and, when the engine runs empty, goes to whoever left last, so that shares add up to busy time exactly.

KV is reserved at admission for prompt and whole answer: the emulated engine knows its answers' lengths, so it never
runs out and never preempts. What could never be admitted is refused by `submit`; `fits` tells beforehand.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from backends.emulator import batching
from backends.emulator.roofline import Physics
from backends.emulator.traits import Traits


@dataclass(slots=True, eq=False)
class Lane:
    """One choice being decoded. `joined` is the decode count at its first token."""

    job: Job
    index: int
    length: int
    joined: int = 0
    share_from: int = 0
    produced: int = 0


@dataclass(slots=True, eq=False)
class Job:
    """A prompt with the lengths of the answers that will be given to it (one lane each, all at least 1).

    `lanes` are those still decoding, `lanes_made` all of them, once the prompt is read.
    """

    prompt_tokens: int
    lengths: tuple[int, ...]
    prefilled: int = 0
    prompt_ns: int = 0
    completion_ns: int = 0
    first_token_ns: int | None = None
    ended_ns: int | None = None
    kv_tokens: int = 0
    lanes: list[Lane] = field(default_factory=list)
    lanes_made: tuple[Lane, ...] = ()


class Engine:
    """A batch of running lanes, a queue of jobs, and one step in progress."""

    def __init__(
        self, physics: Physics, traits: Traits, seed: int, prefill_noise: float, decode_noise: float, start_ns: int = 0
    ) -> None:
        self.busy_ns = 0
        self.steps = 0
        self._physics = physics
        self._traits = traits
        self._random = random.Random(seed)
        self._noise = (prefill_noise, decode_noise) if traits.noisy else (0.0, 0.0)
        self._now_ns = start_ns
        self._idle_ns = 0
        self._idle_since_ns: int | None = start_ns
        self._queue: deque[Job] = deque()
        self._prefilling: list[Job] = []
        self._chunks: list[int] = []
        self._decoding = False
        self._step_start_ns = 0
        self._step_end_ns: int | None = None
        self._lanes = 0
        self._reserved_lanes = 0
        self._queued_lanes = 0
        self._context_tokens = 0
        self._kv_used_tokens = 0
        self._decode_count = 0
        self._share_sum_ns = 0
        self._carry_ns = 0
        self._ends: list[tuple[int, int, Lane]] = []
        self._order = count()
        self._compiled: set[int] = set()

    @property
    def running(self) -> int:
        """Lanes that hold a slot, prompts being read included."""
        return self._reserved_lanes

    @property
    def waiting(self) -> int:
        """Jobs that hold no slot yet."""
        return len(self._queue)

    @property
    def kv_used_ratio(self) -> float:
        """Share of the KV room that is reserved."""
        return self._kv_used_tokens / self._physics.kv_room_tokens

    def demand(self) -> int:
        """Lanes that hold a slot or wait for one."""
        return self._reserved_lanes + self._queued_lanes

    def fits(self, prompt_tokens: int, lengths: Sequence[int]) -> bool:
        """Whether an empty engine could hold a prompt with these answers."""
        return (
            len(lengths) <= self._physics.max_sequences
            and self._kv_tokens(prompt_tokens, lengths) <= self._physics.kv_room_tokens
        )

    def vacancy_s(self) -> float:
        """Roughly how long until the next sequence ends, at the pace of the step in progress; 0 when idle."""
        if self._step_end_ns is None:
            return 0.0
        steps = max(1, self._ends[0][0] - self._decode_count) if self._ends else 1
        return steps * (self._step_end_ns - self._step_start_ns) / 1e9

    def next_event_ns(self) -> int | None:
        """When the step in progress ends; None when idle."""
        return self._step_end_ns

    def busy_and_idle_ns(self, now_ns: int) -> tuple[int, int]:
        """Busy time (the step in progress counted up to now) and idle time, by clocks of their own."""
        if self._idle_since_ns is not None:
            return self.busy_ns, self._idle_ns + now_ns - self._idle_since_ns
        return self.busy_ns + now_ns - self._step_start_ns, self._idle_ns

    def submit(self, now_ns: int, prompt_tokens: int, lengths: Sequence[int]) -> Job:
        """Queue a job; an idle engine starts on it at once. `advance(now_ns)` must have been called.

        Raises: ValueError for a job that even an empty engine could not hold.
        """
        if not self.fits(prompt_tokens, lengths):
            raise ValueError(f"{len(lengths)} answers to {prompt_tokens} prompt tokens exceed the whole engine")
        job = Job(prompt_tokens, tuple(lengths), kv_tokens=self._kv_tokens(prompt_tokens, lengths))
        self._queue.append(job)
        self._queued_lanes += len(job.lengths)
        if self._step_end_ns is None:
            self._begin_step(now_ns)
        return job

    def advance(self, until_ns: int) -> None:
        """Finish every step that ends by `until_ns`."""
        while self._step_end_ns is not None and self._step_end_ns <= until_ns:
            self._end_step(self._step_end_ns)
        self._now_ns = until_ns

    def produced(self, lane: Lane) -> int:
        """Tokens of a lane so far."""
        return min(lane.length, self._decode_count - lane.joined + 1) if lane.job.ended_ns is None else lane.produced

    def share_ns(self, job: Job) -> tuple[int, int]:
        """Busy time a job answers for so far, (prompt, completion); the step in progress is not yet in it."""
        live_ns = sum(self._share_sum_ns - lane.share_from for lane in job.lanes)
        return job.prompt_ns, job.completion_ns + live_ns

    def cancel(self, job: Job, now_ns: int) -> None:
        """Take a job out; its slots and KV are free when this returns. `advance(now_ns)` must have been called."""
        if job.ended_ns is not None:
            return
        if job in self._queue:
            self._queue.remove(job)
            self._queued_lanes -= len(job.lengths)
        else:
            if job in self._prefilling:
                place = self._prefilling.index(job)
                self._prefilling.pop(place)
                if place < len(self._chunks):
                    self._chunks.pop(place)
                self._reserved_lanes -= len(job.lengths)
            for lane in list(job.lanes):
                self._leave(lane, self.produced(lane))
            self._kv_used_tokens -= job.kv_tokens
        job.ended_ns = now_ns
        if self._step_end_ns is not None and not self._tokens_in_step():
            self._abandon_step(job, now_ns)

    def _abandon_step(self, job: Job, now_ns: int) -> None:
        """Nobody is left in the step: it ends here, and whoever left last answers for it."""
        elapsed_ns = now_ns - self._step_start_ns
        self.busy_ns += elapsed_ns
        elapsed_ns += self._carry_ns
        self._carry_ns = 0
        if job.first_token_ns is None:
            job.prompt_ns += elapsed_ns
        else:
            job.completion_ns += elapsed_ns
        self._begin_step(now_ns)

    def _kv_tokens(self, prompt_tokens: int, lengths: Sequence[int]) -> int:
        """Tokens of KV in whole blocks; answers to one prompt share the prompt's."""
        block = self._traits.kv_block_tokens
        return -(-prompt_tokens // block) * block + sum(-(-length // block) * block for length in lengths)

    def _begin_step(self, now_ns: int) -> None:
        self._admit()
        remaining = [job.prompt_tokens - job.prefilled for job in self._prefilling]
        self._chunks = batching.chunks(remaining, self._lanes, self._traits)
        prompt_tokens = sum(self._chunks)
        self._decoding = self._lanes > 0 and batching.decodes(prompt_tokens, self._traits)
        if not self._decoding and not prompt_tokens:
            self._step_end_ns = None
            if self._idle_since_ns is None:
                self._idle_since_ns = now_ns
            return
        if self._idle_since_ns is not None:
            self._idle_ns += now_ns - self._idle_since_ns
            self._idle_since_ns = None
        self._step_start_ns = now_ns
        self._step_end_ns = now_ns + self._step_ns(prompt_tokens)

    def _admit(self) -> None:
        """Move jobs from the queue into slots, in order, while slots and KV last."""
        physics = self._physics
        while self._queue:
            job = self._queue[0]
            lanes = len(job.lengths)
            if (
                self._reserved_lanes + lanes > physics.max_sequences
                or self._kv_used_tokens + job.kv_tokens > physics.kv_room_tokens
            ):
                return
            self._queue.popleft()
            self._queued_lanes -= lanes
            self._reserved_lanes += lanes
            self._kv_used_tokens += job.kv_tokens
            self._prefilling.append(job)

    def _step_ns(self, prompt_tokens: int) -> int:
        lanes = self._lanes if self._decoding else 0
        start = self._prefilling[0].prefilled if self._chunks else 0
        extra_s = 0.0
        if (shapes := self._traits.static_shapes) is not None:
            if prompt_tokens:
                prompt_tokens = shapes.prompt_bucket(prompt_tokens)
                if prompt_tokens > shapes.warm_prompt_tokens and prompt_tokens not in self._compiled:
                    self._compiled.add(prompt_tokens)
                    extra_s = shapes.compile_s
            else:
                lanes = shapes.batch_bucket(lanes)
        context_tokens = self._context_tokens if self._decoding else 0
        seconds = self._physics.step_s(lanes, context_tokens, prompt_tokens, start)
        sigma = self._noise[0 if self._chunks else 1]
        if sigma > 0.0:
            seconds *= self._random.lognormvariate(-sigma * sigma / 2, sigma)
        return max(1, round((seconds + extra_s) * 1e9))

    def _tokens_in_step(self) -> int:
        return (self._lanes if self._decoding else 0) + sum(self._chunks)

    def _end_step(self, now_ns: int) -> None:
        duration_ns = now_ns - self._step_start_ns
        self.busy_ns += duration_ns
        self.steps += 1
        decoding = self._lanes if self._decoding else 0
        share_ns, self._carry_ns = divmod(duration_ns + self._carry_ns, self._tokens_in_step())
        if decoding:
            self._decode_count += 1
            self._share_sum_ns += share_ns
            self._context_tokens += decoding
            self._finish_lanes(now_ns)
        self._read_prompts(share_ns, now_ns)
        self._begin_step(now_ns)

    def _finish_lanes(self, now_ns: int) -> None:
        ends = self._ends
        while ends and ends[0][0] <= self._decode_count:
            lane = heapq.heappop(ends)[2]
            if lane.job.ended_ns is None and lane in lane.job.lanes:
                self._finish(lane, now_ns)

    def _read_prompts(self, share_ns: int, now_ns: int) -> None:
        for job, tokens in zip(self._prefilling, self._chunks, strict=False):
            job.prompt_ns += share_ns * tokens
            job.prefilled += tokens
        done = [job for job in self._prefilling if job.prefilled == job.prompt_tokens]
        if done:
            self._prefilling = [job for job in self._prefilling if job.prefilled < job.prompt_tokens]
        for job in done:
            self._first_tokens(job, now_ns)

    def _first_tokens(self, job: Job, now_ns: int) -> None:
        """The prompt is read: every lane has its first token and joins the batch."""
        job.first_token_ns = now_ns
        for index, length in enumerate(job.lengths):
            lane = Lane(job, index, length, self._decode_count, self._share_sum_ns)
            job.lanes.append(lane)
            self._lanes += 1
            self._context_tokens += job.prompt_tokens + 1
            heapq.heappush(self._ends, (self._decode_count + length - 1, next(self._order), lane))
        job.lanes_made = tuple(job.lanes)
        self._finish_lanes(now_ns)

    def _finish(self, lane: Lane, now_ns: int) -> None:
        job = lane.job
        self._leave(lane, lane.length)
        if not job.lanes:
            job.ended_ns = now_ns
            self._kv_used_tokens -= job.kv_tokens
            if not self._lanes and not self._prefilling:
                job.completion_ns += self._carry_ns
                self._carry_ns = 0

    def _leave(self, lane: Lane, produced: int) -> None:
        job = lane.job
        job.lanes.remove(lane)
        lane.produced = produced
        self._lanes -= 1
        self._reserved_lanes -= 1
        self._context_tokens -= job.prompt_tokens + produced
        job.completion_ns += self._share_sum_ns - lane.share_from
