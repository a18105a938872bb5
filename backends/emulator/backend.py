"""The thin shell that plays the engine: one driver task per backend, asleep until the next step ends.

Wake-ups are at least `TICK_NS` apart, so a wafer that makes a token every half millisecond does not wake the process
two thousand times a second: the tokens of a tick come as one chunk. Nothing wakes while the engine is idle.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Self

from backends.clock import Clock
from backends.emulator import text
from backends.emulator.engine import Engine, Job, Lane
from backends.errors import BackendError, ContextExceeded, Saturated, Unavailable
from backends.types import (
    BackendInfo,
    BackendSnapshot,
    ChoiceEnd,
    DeploymentInfo,
    EngineShare,
    Event,
    GenerationRequest,
    TokenChunk,
    Usage,
)

TICK_NS = 2_000_000


class EmulatedBackend:
    """One engine serving one deployment."""

    def __init__(self, info: BackendInfo, new_engine: Callable[[int], Engine], clock: Clock, max_waiting: int) -> None:
        self.info = info
        self._new_engine = new_engine
        self._clock = clock
        self._room = info_slots(info) + max_waiting
        self._engine = new_engine(clock.now_ns())
        self._playing: dict[Job, EmulatedGeneration] = {}
        self._work = asyncio.Event()
        self._driver: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        self._engine = self._new_engine(self._clock.now_ns())
        self._driver = asyncio.get_running_loop().create_task(self._drive(), name=f"engine {self.info.name}")

    def generate(self, request: GenerationRequest) -> EmulatedGeneration:
        return EmulatedGeneration(self, self.info.deployments[request.model], request)

    def snapshot(self) -> BackendSnapshot:
        now_ns = self._advance()
        engine = self._engine
        busy_ns, idle_ns = engine.busy_and_idle_ns(now_ns)
        return BackendSnapshot(engine.running, engine.waiting, engine.kv_used_ratio, busy_ns, idle_ns)

    async def ping(self) -> None:
        if self._closed or self._driver is None or self._driver.done():
            raise Unavailable(f"{self.info.name} is not running")

    async def aclose(self) -> None:
        self._closed = True
        for generation in list(self._playing.values()):
            generation.fail(Unavailable(f"{self.info.name} is shutting down"))
        if self._driver is not None:
            self._driver.cancel()
            await asyncio.gather(self._driver, return_exceptions=True)

    def submit(self, generation: EmulatedGeneration, prompt_tokens: list[int], lengths: list[list[int]]) -> list[Job]:
        """Queue a generation's prompts, a job each.

        Raises: Saturated; Unavailable.
        """
        if self._closed or self._driver is None:
            raise Unavailable(f"{self.info.name} is not running")
        now_ns = self._advance()
        engine = self._engine
        # An idle engine takes whatever it is asked, however many choices that is.
        asked = sum(map(len, lengths))
        if engine.demand() and engine.demand() + asked > self._room:
            raise Saturated(f"{self.info.name} is full: {engine.demand()} sequences run or wait already")
        jobs = [engine.submit(now_ns, tokens, answers) for tokens, answers in zip(prompt_tokens, lengths, strict=True)]
        for job in jobs:
            self._playing[job] = generation
        self._work.set()
        return jobs

    def cancel(self, jobs: list[Job]) -> None:
        """Free what the jobs hold, at once."""
        now_ns = self._advance()
        for job in jobs:
            self._engine.cancel(job, now_ns)
            self._playing.pop(job, None)

    def produced(self, lane: Lane) -> int:
        """Tokens of a lane so far."""
        return self._engine.produced(lane)

    def _advance(self) -> int:
        now_ns = self._clock.now_ns()
        self._engine.advance(now_ns)
        return now_ns

    async def _drive(self) -> None:
        engine, clock = self._engine, self._clock
        while True:
            next_ns = engine.next_event_ns()
            if next_ns is None:
                self._work.clear()
                await self._work.wait()
                continue
            await clock.sleep_until(max(next_ns, clock.now_ns() + TICK_NS))
            self._advance()
            for job, generation in list(self._playing.items()):
                generation.play(job)
                if job.ended_ns is not None:
                    del self._playing[job]


def info_slots(info: BackendInfo) -> int:
    """How many sequences the backend's one deployment decodes together."""
    return next(iter(info.deployments.values())).profile.max_sequences


class EmulatedGeneration:
    """One request being answered by the engine."""

    def __init__(self, backend: EmulatedBackend, deployment: DeploymentInfo, request: GenerationRequest) -> None:
        self._backend = backend
        self._deployment = deployment
        self._request = request
        self._prompt_tokens = [text.count(prompt) for prompt in request.prompts]
        self._answers: list[text.Answer] = []
        self._said = [0] * request.choices
        self._open = request.choices
        self._jobs: list[Job] | None = None
        self._lanes: dict[Job, list[Lane]] = {}
        self._first_choice: dict[Job, int] = {}
        self._events: deque[Event] = deque()
        self._ready = asyncio.Event()
        self._error: BackendError | None = None
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._jobs is None and not self._closed:
            self._submit()
        while not self._events:
            if self._error is not None:
                raise self._error
            if self._closed or not self._open:
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()
        return self._events.popleft()

    def usage(self) -> Usage:
        jobs = self._jobs or []
        prompt = (
            sum(tokens for job, tokens in zip(jobs, self._prompt_tokens, strict=True) if job.first_token_ns is not None)
            if jobs
            else 0
        )
        return Usage(prompt_tokens=prompt, completion_tokens=sum(self._said))

    def engine_share(self) -> EngineShare:
        jobs = self._jobs or []
        return EngineShare(sum(job.prompt_ns for job in jobs), sum(job.completion_ns for job in jobs))

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._jobs is not None and self._open:
            for job in self._jobs:
                self._count(job)
            self._backend.cancel(self._jobs)
        self._ready.set()

    def fail(self, error: BackendError) -> None:
        """End with an error once what was said has been read."""
        self._error = error
        self._ready.set()

    def play(self, job: Job) -> None:
        """Turn what the engine has done since the last tick into events."""
        if job.first_token_ns is None:
            return
        lanes = self._lanes.get(job)
        if lanes is None:
            lanes = self._lanes[job] = list(job.lanes_made)
        for lane in lanes:
            self._say(lane, self._backend.produced(lane))
        if self._events:
            self._ready.set()

    def _say(self, lane: Lane, produced: int) -> None:
        choice = self._first_choice[lane.job] + lane.index
        said = self._said[choice]
        if produced == said:
            return
        ended = produced == lane.length
        if said and not ended and not self._request.stream:
            return
        answer = self._answers[choice]
        self._said[choice] = produced
        piece = text.slice_of(answer, said, produced)
        self._events.append(TokenChunk(choice, piece, produced - said))
        if ended:
            self._open -= 1
            self._events.append(ChoiceEnd(choice, answer.reason))

    def _count(self, job: Job) -> None:
        """Tokens made but not yet said when a request is cut short: they are used, so they count."""
        for lane in job.lanes_made:
            self._said[self._first_choice[job] + lane.index] = self._backend.produced(lane)

    def _submit(self) -> None:
        request, lengths = self._request, []
        for place, tokens in enumerate(self._prompt_tokens):
            room = self._deployment.context_tokens - tokens
            if room < max(1, request.min_tokens):
                raise ContextExceeded(
                    f"the context of {request.model} on {self._backend.info.name} is "
                    f"{self._deployment.context_tokens} tokens; the prompt has {tokens}",
                    "messages" if request.endpoint == "chat" else "prompt",
                )
            limit = room if request.max_tokens is None else min(room, request.max_tokens)
            answers = [text.answer(request, request.prompts[place], choice, limit) for choice in range(request.n)]
            self._answers += answers
            lengths.append([answer.tokens for answer in answers])
        self._jobs = self._backend.submit(self, self._prompt_tokens, lengths)
        for place, job in enumerate(self._jobs):
            self._first_choice[job] = place * request.n
