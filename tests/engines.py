"""Engines for tests: physics in whole nanoseconds, and a naive engine that takes one step and one lane at a time.

The naive engine is the specification in its plainest form (DESIGN section 5): no closed forms, no counters, no sums
kept. With physics whose times are whole nanoseconds the jumping engine must agree with it to the nanosecond.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from backends import registry
from backends.clock import Clock
from backends.emulator.backend import EmulatedBackend
from backends.emulator.chain import Chain
from backends.emulator.engine import Engine
from backends.emulator.jobs import Job
from backends.emulator.traits import GPU, Read, StaticShapes, Traits
from backends.types import BackendSpec
from tests.sheets import sheets

STATIC = Traits(prefill="serial", static_shapes=StaticShapes(16, 2, 8, 4096, 1.0))
PIPELINE = Traits(law="pipeline", noisy=False)
END_NS = 10**14


@dataclass(frozen=True, slots=True)
class LinearPhysics:
    """Step times that are whole nanoseconds; those of a 70B model on a few GPUs."""

    base_ns: int = 12_000_000
    lane_ns: int = 9_000
    context_ns: int = 54
    prompt_ns: int = 59_000
    kv_room_tokens: int = 50_000
    max_sequences: int = 16

    def step_s(self, lanes: int, context_tokens: int, reads: Sequence[Read] = ()) -> float:
        step_ns = self.base_ns + self.lane_ns * lanes + self.context_ns * context_tokens
        return (step_ns + sum((self.prompt_ns + start) * tokens for start, tokens in reads)) / 1e9

    def decode_line(self, lanes: int, context_tokens: int) -> tuple[float, float]:
        return (self.base_ns + self.lane_ns * lanes) / 1e9, self.context_ns / 1e9


def engine(traits: Traits = GPU, seed: int = 1, noise: float = 0.08, **fields: int) -> Engine:
    """An engine with noise and the given figures of its physics."""
    return Engine(LinearPhysics(**fields), traits, seed, noise, noise)


@dataclass(eq=False)
class NaiveLane:
    length: int
    produced: int = 0


@dataclass(eq=False)
class NaiveJob:
    prompt: int
    lengths: Sequence[int]
    priority: int
    prefix: Sequence[int]
    lanes: list[NaiveLane] = field(default_factory=list)
    decoding: bool = False
    position: int = 0
    target: int = 0
    prefilled: int = 0
    cached: int = 0
    shared: list[int] = field(default_factory=list)
    scheduled_ns: int | None = None
    first_token_ns: int | None = None
    ended_ns: int | None = None
    bill_ns: int = 0
    preemptions: int = 0

    def __post_init__(self) -> None:
        self.lanes = [NaiveLane(length) for length in self.lengths]
        self.target = self.prompt

    def open(self) -> list[NaiveLane]:
        return [lane for lane in self.lanes if lane.produced < lane.length]


class NaiveEngine:
    """One step at a time, every lane looked at, every block counted anew. No noise, any shape as it is."""

    def __init__(self, physics: LinearPhysics, traits: Traits = GPU) -> None:
        self.physics, self.budget, self.block = physics, traits.prefill_budget, traits.kv_block_tokens
        self.schedules_ahead = traits.schedule_ahead
        self.room = physics.kv_room_tokens // self.block
        self.waiting: list[NaiveJob] = []
        self.running: list[NaiveJob] = []
        self.cache: dict[int, None] = {}
        self.idle: list[int] = []
        self.busy_ns = self.carry_ns = self.now_ns = self.start_ns = 0
        self.end_ns: int | None = None
        self.served: dict[NaiveJob, int] = {}

    def submit(
        self,
        now_ns: int,
        prompt: int,
        lengths: Sequence[int],
        *,
        priority: int = 0,
        prefix: Sequence[int] | None = None,
    ) -> NaiveJob:
        job = NaiveJob(prompt, lengths, priority, prefix or ())
        self._line_up(job, at_head=False)
        if self.end_ns is None:
            self._plan(now_ns)
        return job

    def _line_up(self, job: NaiveJob, *, at_head: bool) -> None:
        before = [
            other.priority > job.priority or (not at_head and other.priority == job.priority) for other in self.waiting
        ]
        self.waiting.insert(sum(before), job)

    def used(self, ahead: int) -> int:
        """Blocks in use once every decoding lane has made `ahead` more tokens."""
        held = {name for job in self.running for name in job.shared}
        total = len(held)
        for job in self.running:
            total += -(-job.prompt // self.block) - len(job.shared)
            for lane in job.open():
                total += -(-(lane.produced + (ahead if job.decoding else 1)) // self.block)
        return total

    def advance(self, until_ns: int) -> None:
        while self.end_ns is not None and self.end_ns <= until_ns:
            self._end_step(self.end_ns)

    def cancel(self, job: NaiveJob, now_ns: int) -> None:
        if job.ended_ns is not None:
            return
        job.ended_ns = now_ns
        if job in self.waiting:
            self.waiting.remove(job)
            return
        self._evict(0)
        self._stop(job)
        if self.end_ns is not None and not sum(self.served.values()):
            self.busy_ns += now_ns - self.start_ns
            job.bill_ns += now_ns - self.start_ns + self.carry_ns
            self.carry_ns = 0
            self._plan(now_ns)

    def _stop(self, job: NaiveJob) -> None:
        self.running.remove(job)
        self.served.pop(job, None)
        for name in reversed(job.shared):
            if not any(name in other.shared for other in self.running):
                self.idle.append(name)
        job.shared = []
        job.decoding = False

    def _evict(self, ahead: int) -> None:
        while self.idle and len(self.idle) > self.room - self.used(ahead):
            del self.cache[self.idle.pop(0)]

    def _plan(self, now_ns: int) -> None:
        self.served = {}
        preempts, ahead = self.used(1) > self.room, self.schedules_ahead and bool(self.running)
        if preempts:
            while self.used(1) > self.room:
                lowest = min(job.priority for job in self.running)
                job = [job for job in self.running if job.priority == lowest][-1]
                self._evict(0)
                self._stop(job)
                job.preemptions += 1
                job.target = job.prompt + sum(lane.produced for lane in job.open())
                self._line_up(job, at_head=True)
        elif not ahead:
            self._admit_all(now_ns, 1)
        decoding = [job for job in self.running if job.decoding]
        reading = [job for job in self.running if not job.decoding]
        lanes = sum(len(job.open()) for job in decoding)
        context = sum(job.prompt + lane.produced for job in decoding for lane in job.open())
        budget = max(1, self.budget - lanes)
        for job in decoding:
            self.served[job] = len(job.open())
        chunks = 0
        for job in reading:
            chunk = min(budget - chunks, job.target - job.position)
            if chunk > 0:
                self.served[job] = chunk
                chunks += chunk
        if ahead and not preempts:
            self._admit_all(now_ns, 2)
        self.start_ns = now_ns
        self.end_ns = None
        if self.served:
            reads = [(job.position, self.served[job]) for job in reading if job in self.served]
            self.end_ns = now_ns + round(self.physics.step_s(lanes, context, reads) * 1e9)

    def _admit_all(self, now_ns: int, after: int) -> None:
        """Who joins this step (`after` 1) or the next one (2): as long as some of its tokens are left for a prompt."""
        while self.waiting:
            lanes = sum(len(job.open()) for job in self.running if job.decoding)
            unread = sum(
                job.target - job.position - self.served.get(job, 0) for job in self.running if not job.decoding
            )
            if unread >= max(1, self.budget - lanes) or not self._admit(self.waiting[0], now_ns, after):
                return

    def _admit(self, job: NaiveJob, now_ns: int, after: int) -> bool:
        slots = sum(len(other.open()) for other in self.running) + len(job.open())
        if slots > self.physics.max_sequences:
            return False
        hits: list[int] = []
        for name in job.prefix[: (job.prompt - 1) // self.block]:
            if name not in self.cache:
                break
            hits.append(name)
        job.shared, job.position = hits, len(hits) * self.block
        self.running.append(job)
        if self.used(after) > self.room:
            self.running.remove(job)
            job.shared = []
            return False
        self.idle = [name for name in self.idle if name not in hits]
        self._evict(after)
        self.waiting.remove(job)
        if job.scheduled_ns is None:
            job.scheduled_ns = now_ns
        job.cached += max(0, job.position - job.prefilled)
        job.prefilled = max(job.prefilled, job.position)
        return True

    def _end_step(self, now_ns: int) -> None:
        self.busy_ns += now_ns - self.start_ns
        share_ns, self.carry_ns = divmod(now_ns - self.start_ns + self.carry_ns, sum(self.served.values()))
        served = self.served
        self._evict(1)
        for job, tokens in served.items():
            job.bill_ns += share_ns * tokens
            if job.decoding:
                for lane in job.open():
                    lane.produced += 1
        for job in [job for job in served if job.decoding]:
            self._finish(job, now_ns)
        begun = []
        for job, tokens in served.items():
            if not job.decoding and job in self.running:
                job.position += tokens
                job.prefilled = max(job.prefilled, min(job.position, job.prompt))
                if job.position == job.target:
                    begun.append(job)
        for job in begun:
            self._begin(job, now_ns)
        for job in begun:
            self._finish(job, now_ns)
        self._plan(now_ns)

    def _begin(self, job: NaiveJob, now_ns: int) -> None:
        job.shared = list(job.prefix[: job.prompt // self.block])
        self.idle = [name for name in self.idle if name not in job.shared]
        self.cache.update(dict.fromkeys(job.shared))
        job.decoding = True
        if job.first_token_ns is None:
            job.first_token_ns = now_ns
        for lane in job.open():
            lane.produced += 1

    def _finish(self, job: NaiveJob, now_ns: int) -> None:
        if not job.open() and job in self.running:
            job.ended_ns = now_ns
            self._stop(job)
            if not self.running:
                job.bill_ns += self.carry_ns
                self.carry_ns = 0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A call that an engine saw: a job submitted, or (`cancels`) the number of one cancelled."""

    now_ns: int
    prompt_tokens: int = 0
    lengths: tuple[int, ...] = ()
    priority: int = 0
    prefix: Chain | Sequence[int] | None = None
    cancels: int | None = None


class RecordingEngine(Engine):
    """Writes down every call that decides something."""

    def __init__(self, *args: Any, **fields: Any) -> None:
        super().__init__(*args, **fields)
        self.built_with = (args, fields)
        self.arrivals: list[Arrival] = []
        self.jobs: list[Job] = []

    def submit(
        self,
        now_ns: int,
        prompt_tokens: int,
        lengths: Sequence[int],
        *,
        priority: int = 0,
        prefix: Chain | Sequence[int] | None = None,
    ) -> Job:
        job = super().submit(now_ns, prompt_tokens, lengths, priority=priority, prefix=prefix)
        self.arrivals.append(Arrival(now_ns, prompt_tokens, tuple(lengths), priority, prefix))
        self.jobs.append(job)
        return job

    def cancel(self, job: Job, now_ns: int) -> None:
        self.arrivals.append(Arrival(now_ns, cancels=self.jobs.index(job)))
        super().cancel(job, now_ns)


async def recording_backend(spec: BackendSpec, clock: Clock) -> tuple[EmulatedBackend, RecordingEngine]:
    """A started backend whose engine is recorded."""
    with patch("backends.emulator.build.Engine", RecordingEngine):
        backend = registry.build(spec, sheets(), clock)
        await backend.start()
    assert isinstance(backend, EmulatedBackend)
    assert isinstance(backend.engine, RecordingEngine)
    return backend, backend.engine


def replayed(recorded: RecordingEngine) -> tuple[list[Job], dict[tuple[int, int, int], int]]:
    """The same calls again in virtual time: the jobs, and when each (job, lane, token from 1) came out."""
    args, fields = recorded.built_with
    machine = Engine(*args, **fields)
    jobs: list[Job] = []
    told: dict[tuple[int, int], int] = {}
    out_ns: dict[tuple[int, int, int], int] = {}
    open_jobs: dict[int, Job] = {}

    def play_to(until_ns: int, now_ns: int) -> None:
        while (next_ns := machine.next_token_ns(now_ns)) is not None and next_ns <= until_ns:
            now_ns = next_ns
            machine.advance(now_ns)
            for number, job in list(open_jobs.items()):
                for lane in job.lanes_made:
                    produced = machine.produced(lane)
                    for token in range(told.get((number, lane.index), 0) + 1, produced + 1):
                        out_ns[number, lane.index, token] = now_ns
                    told[number, lane.index] = produced
                if job.ended_ns is not None:
                    del open_jobs[number]
        machine.advance(until_ns)

    now_ns = recorded.arrivals[0].now_ns
    for arrival in recorded.arrivals:
        play_to(arrival.now_ns, now_ns)
        now_ns = arrival.now_ns
        if arrival.cancels is None:
            job = machine.submit(
                now_ns, arrival.prompt_tokens, arrival.lengths, priority=arrival.priority, prefix=arrival.prefix
            )
            open_jobs[len(jobs)] = job
            jobs.append(job)
        else:
            machine.cancel(jobs[arrival.cancels], now_ns)
            open_jobs.pop(arrival.cancels, None)
    play_to(now_ns + END_NS, now_ns)
    return jobs, out_ns
