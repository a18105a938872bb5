"""The accelerator's loop as a pure state machine: `submit`, `cancel`, `advance(until)`, `next_event_ns`.

Time is integer nanoseconds and never read from a clock; cutting `advance` at other moments changes nothing. The engine
jumps from event to event: a step that reads prompt tokens is one event, and the decode steps until something changes
(a lane ends, KV runs out, an arrival could be admitted) are one `Segment`. Nothing on the way looks at every lane:
they are kept as sums (`Batch`, `KvCache`).

Billing: each step's time is split evenly over the tokens it served; what does not divide is carried into the next step
and, when the engine runs empty, goes to whoever left last, so that shares add up to busy time exactly.

When KV blocks run out, idle cached ones are evicted and then the job admitted last among those of the lowest priority
is preempted: its blocks are freed, it waits at the head of its priority, and prompt and answers so far are read again.
What could never be admitted is refused by `submit`; `fits` tells beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence

from backends.emulator import batching
from backends.emulator.batch import Batch
from backends.emulator.chain import Chain, chained
from backends.emulator.jobs import OUT_OF_BATCH, Job, Lane
from backends.emulator.kv_cache import KvCache
from backends.emulator.pace import Pace, StepPhysics
from backends.emulator.segment import Segment
from backends.emulator.traits import Traits
from backends.emulator.waiting import WaitingLine

SEGMENT_STEPS = 512
"""Steps planned at once: the line that their time follows is a local one."""


class Engine:
    """A batch of running lanes, a line of waiting jobs, and a segment of steps in progress.

    Counters: `busy_ns` and `steps` as far as accounted for, `preemptions`, `recomputed_tokens` (read again after one),
    and as vLLM counts them `prefix_queries_tokens` (prompt tokens looked up in the prefix cache) and
    `prefix_hits_tokens` (found there). `news`, if given a list, gets every job when its first token is out (`ended_ns`
    None, but for one-token answers) and when it has ended; whoever gave the list empties it.
    """

    def __init__(
        self, physics: StepPhysics, traits: Traits, seed: int, prefill_noise: float, decode_noise: float,
        start_ns: int = 0,
    ) -> None:  # fmt: skip
        self.news: list[Job] | None = None
        self.busy_ns = self.steps = 0
        self.preemptions = self.recomputed_tokens = 0
        self.prefix_queries_tokens = self.prefix_hits_tokens = 0
        self._traits = traits
        self._max_sequences = physics.max_sequences
        self._pace = Pace(physics, traits, seed, prefill_noise, decode_noise)
        self._kv = KvCache(physics.kv_room_tokens, traits.kv_block_tokens)
        self._waiting = WaitingLine()
        self._admitted: dict[Job, None] = {}
        self._prefilling: list[Job] = []
        self._ahead: list[Job] = []
        self._chunks: list[int] = []
        self._chunk_tokens = self._decoding = self._reserved_lanes = self._carry_ns = 0
        self._batch = Batch()
        self._segment = Segment()
        self._end_ns: int | None = None
        self._now_ns = start_ns
        self._idle_ns = 0
        self._idle_since_ns: int | None = start_ns

    @property
    def running(self) -> int:
        """Lanes that hold a slot, prompts being read included."""
        return self._reserved_lanes

    @property
    def waiting(self) -> int:
        """Jobs that hold no slot: not yet, or not any more."""
        return self._waiting.size

    @property
    def kv_used_ratio(self) -> float:
        """Share of the KV blocks that are in use; idle cached ones count as free, as in vLLM."""
        self._settle()
        return self._kv.used(self._batch.count) / self._kv.room

    def demand(self) -> int:
        """Lanes that hold a slot or wait for one."""
        return self._reserved_lanes + self._waiting.lanes

    def fits(self, prompt_tokens: int, lengths: Sequence[int]) -> bool:
        """Whether an empty engine could hold a prompt with these answers."""
        return len(lengths) <= self._max_sequences and self._kv.blocks(prompt_tokens, lengths) <= self._kv.room

    def vacancy_s(self) -> float:
        """Roughly how long until the next sequence ends, at the pace of the step in progress; 0 when idle."""
        if self._end_ns is None:
            return 0.0
        self._settle()
        segment = self._segment
        steps = max(1, self._batch.steps_to_next_end()) if self._batch.lanes else 1
        return steps * (segment.end_of(segment.done + 1) - segment.anchor_ns) / 1e9

    def next_event_ns(self) -> int | None:
        """When the segment in progress ends, and something may change; None when idle."""
        return self._end_ns

    def next_token_ns(self, now_ns: int) -> int | None:
        """When the step in progress at `now_ns` ends: no token comes out before; None when idle. The engine must have
        been advanced to `now_ns`."""
        segment = self._segment
        if self._end_ns is None or segment.steps == 1:
            return self._end_ns
        return segment.end_of(min(segment.steps_by(now_ns) + 1, segment.steps))

    def last_token_ns(self, now_ns: int) -> int:
        """When the last step ended that had by `now_ns`; the engine must have been advanced no further than that."""
        return self._segment.anchor_ns if self._end_ns is None else self._segment.last_end_by(now_ns)

    def busy_and_idle_ns(self, now_ns: int) -> tuple[int, int]:
        """Busy time (the step in progress counted up to now) and idle time, by clocks of their own."""
        if self._idle_since_ns is not None:
            return self.busy_ns, self._idle_ns + now_ns - self._idle_since_ns
        return self.busy_ns + now_ns - self._segment.anchor_ns, self._idle_ns

    def submit(
        self, now_ns: int, prompt_tokens: int, lengths: Sequence[int], *, priority: int = 0,
        prefix: Chain | Sequence[int] | None = None,
    ) -> Job:  # fmt: skip
        """Queue a job; an idle engine starts on it at once. `advance(now_ns)` must have been called.

        A higher `priority` is admitted sooner. `prefix` names the prompt's whole blocks, for the prefix cache; None
        leaves the job out of it. Raises: ValueError for a job that even an empty engine could not hold.
        """
        if not self.fits(prompt_tokens, lengths):
            raise ValueError(f"{len(lengths)} answers to {prompt_tokens} prompt tokens exceed the whole engine")
        job = Job(prompt_tokens, tuple(lengths), priority, chained(prefix), now_ns)
        self._waiting.push(job)
        if self._end_ns is None:
            self._plan(now_ns)
        elif self._segment.steps > 1:
            self._make_way(now_ns)
        return job

    def advance(self, until_ns: int) -> None:
        """Finish every step that ends by `until_ns`."""
        end_ns = self._end_ns
        while end_ns is not None and end_ns <= until_ns:
            self._end_segment(end_ns)
            end_ns = self._end_ns
        self._now_ns = until_ns

    def produced(self, lane: Lane) -> int:
        """Tokens of a lane so far."""
        if lane.end == OUT_OF_BATCH:
            return lane.produced
        self._settle()
        return self._batch.count - lane.joined + 1

    def share_ns(self, job: Job) -> tuple[int, int]:
        """Busy time a job answers for so far, (prompt, completion); the step in progress is not yet in it."""
        self._settle()
        share_sum_ns = self._batch.share_sum_ns
        live_ns = sum(share_sum_ns - lane.share_from for lane in job.lanes if lane.end != OUT_OF_BATCH)
        return job.prompt_ns, job.completion_ns + live_ns

    def cancel(self, job: Job, now_ns: int) -> None:
        """Take a job out; its slots and KV are free when this returns. `advance(now_ns)` must have been called."""
        if job.ended_ns is not None:
            return
        self._now_ns = now_ns
        self._settle()
        job.ended_ns = now_ns
        if not self._waiting.remove(job):
            self._take_out(job)
        job.lanes.clear()
        if self._end_ns is None:
            return
        if not self._decoding + self._chunk_tokens:
            self._abandon_step(job, now_ns)
        elif self._segment.steps > 1:
            self._end_ns = self._segment.cut(self._segment.done + 1)

    def _take_out(self, job: Job) -> None:
        """A running job stops, for good or to wait again: what it holds is free."""
        batch = self._batch
        self._kv.evict(batch.count)
        if job in self._ahead:
            self._ahead.remove(job)
        elif job in self._prefilling:
            place = self._prefilling.index(job)
            del self._prefilling[place]
            del self._chunks[place : place + 1]
            self._chunk_tokens = sum(self._chunks)
        else:
            for lane in job.lanes:
                batch.leave(lane, job)
                self._kv.leave(lane.joined)
            job.last_token_ns = self._segment.anchor_ns
            if self._decoding:
                self._decoding = batch.lanes
        self._reserved_lanes -= job.width
        self._kv.release(job)
        del self._admitted[job]

    def _abandon_step(self, job: Job, now_ns: int) -> None:
        """Nobody is left in the step: it ends here, and whoever left last answers for it."""
        elapsed_ns = now_ns - self._segment.anchor_ns
        self.busy_ns += elapsed_ns
        elapsed_ns += self._carry_ns
        self._carry_ns = 0
        if job.first_token_ns is None:
            job.prompt_ns += elapsed_ns
        else:
            job.completion_ns += elapsed_ns
        self._plan(now_ns)

    def _make_way(self, now_ns: int) -> None:
        """If whoever is next could be admitted, let the segment end with the step in progress."""
        job = self._waiting.head()
        if job is None or self._reserved_lanes + job.width > self._max_sequences:
            return
        segment = self._segment
        step = segment.steps_by(now_ns)
        if job.prefix is None and not self._kv.may_admit(job, self._batch.count + step - segment.done):
            return
        self._end_ns = segment.cut(step + 1)

    def _settle(self) -> None:
        """Account for the steps of the segment that have ended by now."""
        segment = self._segment
        if self._end_ns is None or segment.steps - segment.done <= 1:
            return
        step = segment.steps_by(self._now_ns)
        if step > segment.done:
            self._account(step, segment.end_of(step))

    def _account(self, step: int, end_ns: int) -> int:
        """Account for the segment's steps up to `step`, which ends at `end_ns`; what each token of a step bears."""
        segment = self._segment
        steps = step - segment.done
        duration_ns = end_ns - segment.anchor_ns
        segment.done = step
        segment.anchor_ns = end_ns
        self.busy_ns += duration_ns
        self.steps += steps
        decoding = self._decoding
        share_ns, self._carry_ns = divmod(duration_ns + self._carry_ns, decoding + self._chunk_tokens)
        if decoding:
            self._batch.step(steps, share_ns)
        return share_ns

    def _end_segment(self, now_ns: int) -> None:
        share_ns = self._account(self._segment.steps, now_ns)
        if self._decoding:
            if self._kv.prefix.idle_blocks:
                self._kv.evict(self._batch.count)
            self._finish_lanes(now_ns)
        if self._chunks:
            self._read_prompts(share_ns, now_ns)
        self._plan(now_ns)

    def _plan(self, now_ns: int) -> None:
        """Decide what the engine does next: one step that reads prompts, a segment of decode steps, or nothing."""
        kv, batch = self._kv, self._batch
        after = batch.count + 1
        self._chunks = []
        self._decoding = self._chunk_tokens = 0
        if self._ahead:
            self._prefilling += self._ahead
            self._ahead = []
        most_steps, admits = SEGMENT_STEPS, self._waiting.size > 0
        if batch.lanes and kv.full(after):
            self._preempt(after)
            most_steps, admits = 1, False  # what was freed beyond need is given out when a step has passed
        elif admits and not (self._traits.schedule_ahead and (self._prefilling or batch.lanes)):
            self._admit(now_ns, after, self._prefilling)
            admits = False
        if self._prefilling:
            self._plan_prompts(now_ns)
        if admits:  # the step that begins now is made up already: who is let in joins the next one
            self._admit(now_ns, after + 1, self._ahead)
            if self._ahead:
                most_steps = 1
        if batch.lanes and not self._prefilling:
            self._plan_decoding(now_ns, most_steps)
        if not batch.lanes and not self._prefilling:
            self._end_ns = None
            if self._idle_since_ns is None:
                self._idle_since_ns = now_ns
        elif self._idle_since_ns is not None:
            self._idle_ns += now_ns - self._idle_since_ns
            self._idle_since_ns = None

    def _plan_decoding(self, now_ns: int, most_steps: int) -> None:
        batch, kv = self._batch, self._kv
        steps = batch.steps_to_next_end()
        if steps > most_steps:
            steps = most_steps
        if steps > 1 and kv.full(batch.count + steps):
            steps = kv.steps_that_fit(batch.count, steps)
        self._decoding = batch.lanes
        first_ns, slope_ns = self._pace.decode(batch.lanes, batch.context_tokens, steps)
        self._end_ns = self._segment.plan(now_ns, first_ns, slope_ns, steps)

    def _plan_prompts(self, now_ns: int) -> None:
        prefilling, lanes, context_tokens = self._prefilling, self._batch.lanes, self._batch.context_tokens
        remaining = [job.target - job.position for job in prefilling]
        self._chunks = batching.chunks(remaining, lanes, self._traits)
        self._chunk_tokens = prompt_tokens = sum(self._chunks)
        if not batching.decodes(prompt_tokens, self._traits):
            lanes = context_tokens = 0
        self._decoding = lanes
        reads = [(job.position, tokens) for job, tokens in zip(prefilling, self._chunks, strict=False)]
        step_ns = self._pace.mixed(lanes, context_tokens, reads)
        self._end_ns = self._segment.plan(now_ns, step_ns, 0.0, 1)

    def _admit(self, now_ns: int, after: int, joining: list[Job]) -> None:
        """Move jobs from the line into slots, in order, while slots, KV and the step's token budget last: who would
        only wait for others' prompts to be read stays in the line, as in vLLM."""
        waiting = self._waiting
        unread = sum([job.target - job.position for job in self._prefilling]) - self._chunk_tokens
        room = batching.room(self._batch.lanes, self._traits)
        while unread < room and (job := waiting.head()) is not None:
            if self._reserved_lanes + job.width > self._max_sequences or not self._kv.admit(job, after):
                return
            waiting.remove(job)
            self._reserved_lanes += job.width
            self._admitted[job] = None
            joining.append(job)
            unread += job.target - job.position
            if job.scheduled_ns is None:
                job.scheduled_ns = now_ns
                if job.prefix is not None:
                    self.prefix_queries_tokens += job.prompt_tokens
                    self.prefix_hits_tokens += job.position
            if job.position > job.prefilled:
                job.cached_tokens += job.position - job.prefilled
                job.prefilled = job.position

    def _preempt(self, after: int) -> None:
        """Send jobs back to the line until the others have room for their next token."""
        while self._kv.full(after):
            lowest = min(job.priority for job in self._admitted)
            job = next(job for job in reversed(self._admitted) if job.priority == lowest)
            self._take_out(job)
            job.width = len(job.lanes) or len(job.lengths)
            job.target = job.prompt_tokens + sum(lane.produced for lane in job.lanes)
            job.preemptions += 1
            self.preemptions += 1
            self._waiting.push(job, at_head=True)

    def _finish_lanes(self, now_ns: int) -> None:
        while (ended := self._batch.pop_ended()) is not None:
            lane, job = ended
            self._kv.leave(lane.joined)
            self._reserved_lanes -= 1
            job.width -= 1
            job.lanes.remove(lane)
            job.last_token_ns = now_ns
            if job.lanes:
                continue
            job.ended_ns = now_ns
            if self.news is not None:
                self.news.append(job)
            self._kv.release(job)
            del self._admitted[job]
            if not self._admitted:
                job.completion_ns += self._carry_ns
                self._carry_ns = 0

    def _read_prompts(self, share_ns: int, now_ns: int) -> None:
        done = 0
        for job, tokens in zip(self._prefilling, self._chunks, strict=False):
            job.prompt_ns += share_ns * tokens
            job.position += tokens
            read = min(job.position, job.prompt_tokens)
            if job.preemptions:
                self.recomputed_tokens += tokens - max(0, read - job.prefilled)
            if read > job.prefilled:
                job.prefilled = read
            if job.position == job.target:
                done += 1
        # Chunks are given from the head of the line, so those that are done stand there.
        ready = self._prefilling[:done]
        del self._prefilling[:done]
        for job in ready:
            self._begin_answers(job, now_ns)
        if done:
            self._finish_lanes(now_ns)

    def _begin_answers(self, job: Job, now_ns: int) -> None:
        """The prompt is read: every lane has its next token and joins the batch."""
        self._kv.begin(job)
        if job.first_token_ns is None:
            job.first_token_ns = now_ns
            if self.news is not None:
                self.news.append(job)
            job.lanes = [Lane(index, length) for index, length in enumerate(job.lengths)]
            job.lanes_made = tuple(job.lanes)
        for lane in job.lanes:
            self._batch.join(lane, job)
            self._kv.join(lane.joined)
