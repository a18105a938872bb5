"""The thin shell that plays the engine: one driver task per backend, asleep until the next step ends.

Wake-ups are at least `TICK_NS` apart, so a wafer that makes a token every half millisecond does not wake the process
two thousand times a second: the tokens of a tick come as one chunk. Where nobody streams it sleeps until the engine's
next event. Nothing wakes while the engine is idle.

What a stand-alone server needs for vLLM's metrics is `EmulatedBackend.engine` (running, waiting, kv_used_ratio,
preemptions, prefix_queries_tokens, prefix_hits_tokens) and `EmulatedGeneration.timing()`.

Choices of one prompt share its reading and its KV. Where there are more than the engine has room for, they go in
groups, each of which reads the prompt again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Self

from backends.clock import Clock
from backends.emulator import text, vectors
from backends.emulator.cold import ColdEngine
from backends.emulator.engine import Engine
from backends.emulator.jobs import Asked, Job, Lane, Timing
from backends.errors import BackendError, ContextExceeded, Saturated, Unavailable, Unsupported
from backends.types import (
    PROMPT_FIELDS,
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
log = logging.getLogger("turnout.emulator")


class EmulatedBackend:
    """One engine serving one deployment."""

    def __init__(
        self,
        info: BackendInfo,
        new_engine: Callable[[int], Engine],
        clock: Clock,
        max_waiting: int,
        prefix_block_tokens: int | None = None,
    ) -> None:
        self.info = info
        self.prefix_block_tokens = prefix_block_tokens
        """Tokens to a block of the prefix cache; None = there is none."""
        self._new_engine = new_engine
        self._clock = clock
        self.room = info_slots(info) + max_waiting
        """Sequences that may run or wait at once; a request beyond them is refused."""
        self._engine = new_engine(clock.now_ns())
        self._playing: dict[Job, EmulatedGeneration] = {}
        self._streaming = 0
        self._work = asyncio.Event()
        self._wake_ns = 0
        self._driver: asyncio.Task[None] | None = None
        self._closed = False
        self._broken = False

    @property
    def engine(self) -> Engine:
        """The state machine being played; before `start`, a fresh one that nobody plays."""
        return self._engine

    async def start(self) -> None:
        self._engine = self._new_engine(self._clock.now_ns())
        self._driver = self._new_driver()

    def generate(self, request: GenerationRequest) -> EmulatedGeneration:
        return EmulatedGeneration(self, self.info.deployments.get(request.model), request)

    def snapshot(self) -> BackendSnapshot:
        now_ns = self._advance()
        engine = self._engine
        busy_ns, idle_ns = engine.busy_and_idle_ns(now_ns)
        return BackendSnapshot(
            engine.running,
            engine.waiting,
            engine.kv_used_ratio,
            busy_ns,
            idle_ns,
            engine.preemptions,
            engine.prefix_queries_tokens,
            engine.prefix_hits_tokens,
        )

    async def ping(self) -> None:
        self._check_running()

    def warm(self) -> None:
        if isinstance(self._engine, ColdEngine) and not self._broken:
            self._engine.wake(self._advance())
            self._work.set()

    async def aclose(self) -> None:
        self._closed = True
        driver, self._driver = self._driver, None
        for generation in dict.fromkeys(self._playing.values()):
            generation.fail(Unavailable(f"{self.info.name} is shutting down"))
        if driver is not None:
            driver.cancel()
            await asyncio.gather(driver, return_exceptions=True)

    def submit(self, generation: EmulatedGeneration, asked: Sequence[Asked]) -> list[Job]:
        """Queue a generation's jobs.

        Raises: Saturated; Unavailable.
        """
        self._check_running()
        now_ns = self._advance()
        engine = self._engine
        # An idle engine takes whatever it is asked, however many choices that is.
        demand = engine.demand()
        if demand and demand + sum(len(job.lengths) for job in asked) > self.room:
            raise Saturated(f"{self.info.name} is full: {demand} sequences run or wait already", engine.vacancy_s())
        priority = generation.request.priority
        jobs = [
            engine.submit(now_ns, job.prompt_tokens, job.lengths, priority=priority, prefix=job.prefix) for job in asked
        ]
        for job in jobs:
            self._playing[job] = generation
        if generation.request.stream:
            self._streaming += len(jobs)
        self._work.set()
        self._rearm()
        return jobs

    def cancel(self, jobs: list[Job]) -> None:
        """Free what the jobs hold, at once."""
        now_ns = self._advance()
        for job in jobs:
            if job in self._playing:
                self._forget(job)
            if not self._broken:
                self._engine.cancel(job, now_ns)
        self._rearm()

    def _forget(self, job: Job) -> None:
        if self._playing.pop(job).request.stream:
            self._streaming -= 1

    def _next_ns(self) -> int | None:
        """When there will be something to tell."""
        if self._streaming:
            return self._engine.next_token_ns(self._clock.now_ns())
        return self._engine.next_event_ns()

    def _check_running(self) -> None:
        if self._closed or self._broken or self._driver is None:
            raise Unavailable(f"{self.info.name} is not running")

    def _advance(self) -> int:
        now_ns = self._clock.now_ns()
        if not self._broken:
            self._engine.advance(now_ns)
        return now_ns

    def _rearm(self) -> None:
        """Start the driver's sleep anew when the next event has moved forward: a cancelled compilation or long
        prompt would else leave the others waiting for its end."""
        next_ns = self._next_ns()
        if self._broken or self._driver is None or next_ns is None:
            return
        if next_ns + TICK_NS < self._wake_ns:
            self._driver.cancel()
            self._driver = self._new_driver()

    def _new_driver(self) -> asyncio.Task[None]:
        self._wake_ns = 0
        driver = asyncio.get_running_loop().create_task(self._drive(), name=f"engine {self.info.name}")
        driver.add_done_callback(self._driver_ended)
        return driver

    def _driver_ended(self, driver: asyncio.Task[None]) -> None:
        """A driver only ends by being cancelled. One that died of a bug may leave no request waiting."""
        if driver.cancelled():
            return
        self._broken = True
        log.error("the engine of %s broke; it takes no more requests", self.info.name, exc_info=driver.exception())
        for generation in dict.fromkeys(self._playing.values()):
            generation.fail(Unavailable(f"{self.info.name} broke"))

    async def _drive(self) -> None:
        clock = self._clock
        while True:
            next_ns = self._next_ns()
            if next_ns is None:
                self._wake_ns = 0
                self._work.clear()
                await self._work.wait()
                continue
            self._wake_ns = max(next_ns, clock.now_ns() + TICK_NS)
            await clock.sleep_until(self._wake_ns)
            self._advance()
            for job, generation in list(self._playing.items()):
                generation.play(job)
                if job.ended_ns is not None:
                    self._forget(job)


def info_slots(info: BackendInfo) -> int:
    """How many sequences the backend's one deployment decodes together."""
    return next(iter(info.deployments.values())).profile.max_sequences


class EmulatedGeneration:
    """One request being answered by the engine."""

    def __init__(self, backend: EmulatedBackend, deployment: DeploymentInfo | None, request: GenerationRequest) -> None:
        self._backend = backend
        self._deployment = deployment
        self.request = request
        self._prompt_tokens = [text.count(prompt) for prompt in request.prompts]
        self._answers: list[text.Answer] = []
        self._structured: text.Structured | None = None
        self._said = [0] * request.choices
        self._open = request.choices
        self._jobs: list[Job] | None = None
        self._prompt_jobs: list[Job] = []
        self._first_choice: dict[Job, int] = {}
        self._events: deque[Event] = deque()
        self._ready = asyncio.Event()
        self._error: BackendError | None = None
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._jobs is None and self._error is None and not self._closed:
            try:
                await self._submit()
            except BackendError as error:
                self._error = error
        while not self._events:
            if self._closed or not self._open:
                raise StopAsyncIteration
            if self._error is not None:
                raise self._error
            self._ready.clear()
            await self._ready.wait()
        return self._events.popleft()

    def usage(self) -> Usage:
        produced = self._backend.engine.produced
        return Usage(
            prompt_tokens=sum(job.prefilled - job.cached_tokens for job in self._prompt_jobs),
            cached_tokens=sum(job.cached_tokens for job in self._prompt_jobs),
            completion_tokens=0
            if self.request.endpoint == "embedding"
            else sum(produced(lane) for job in self._jobs or () for lane in job.lanes_made),
        )

    def engine_share(self) -> EngineShare:
        shares = [self._backend.engine.share_ns(job) for job in self._jobs or ()]
        return EngineShare(sum(prompt for prompt, _ in shares), sum(completion for _, completion in shares))

    def service_times(self) -> None: ...

    def timing(self) -> Timing | None:
        """When the engine queued it, first scheduled it, and made its first and its latest known last token; None
        before it was submitted. Times are of the backend's clock; final after exhaustion or `aclose()`."""
        jobs = self._jobs
        if not jobs:
            return None
        return Timing(
            min(job.queued_ns for job in jobs),
            min((job.scheduled_ns for job in jobs if job.scheduled_ns is not None), default=None),
            min((job.first_token_ns for job in jobs if job.first_token_ns is not None), default=None),
            max((job.last_token_ns for job in jobs if job.last_token_ns is not None), default=None),
        )

    def timing_of(self, choice: int) -> Timing:
        """The same for one choice that has begun: its own prompt's times, where there are several prompts."""
        return next(job.timing for job, first in reversed(self._first_choice.items()) if first <= choice)

    def prompt_tokens_of(self, choice: int) -> int:
        """Tokens of the prompt that a choice answers, cached ones included."""
        return self._prompt_tokens[choice // self.request.n]

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._events.clear()
        self._release()

    def fail(self, error: BackendError) -> None:
        """Stop, and end with an error once what was said has been read."""
        self._error = error
        self._release()

    def play(self, job: Job) -> None:
        """Turn what the engine has done since the last tick into events."""
        if job.first_token_ns is None:
            return
        produced = self._backend.engine.produced
        for lane in job.lanes_made:
            self._say(self._first_choice[job] + lane.index, lane, produced(lane))
        if self._events:
            self._ready.set()

    def _say(self, choice: int, lane: Lane, produced: int) -> None:
        said = self._said[choice]
        if produced == said:
            return
        ended = produced == lane.length
        if said and not ended and not self.request.stream and produced - said < text.WINDOW_TOKENS:
            return
        answer = self._answers[choice]
        self._said[choice] = produced
        piece = text.slice_of(answer, said, produced)
        self._events.append(TokenChunk(choice, piece, produced - said, None, answer.tool is None, answer.tool))
        if ended:
            self._open -= 1
            self._events.append(ChoiceEnd(choice, answer.reason, None, answer.stop))

    def _release(self) -> None:
        if self._jobs is not None and self._open:
            self._backend.cancel(self._jobs)
        self._ready.set()

    async def _submit(self) -> None:
        request, deployment = self.request, self._deployment
        if deployment is None:
            raise Unsupported(f"{self._backend.info.name} does not serve {request.model}", "model")
        if request.needs & text.STRUCTURED:
            self._structured = import_module("backends.emulator.structured").structured(request)
        asked: list[Asked] = []
        first_choices: list[int] = []
        for place, tokens in enumerate(self._prompt_tokens):
            room = deployment.context_tokens - tokens
            if room < max(1, request.min_tokens):
                raise ContextExceeded(
                    f"the context of {request.model} on {self._backend.info.name} is "
                    f"{deployment.context_tokens} tokens; the prompt has {tokens}",
                    PROMPT_FIELDS[request.endpoint],
                )
            limit = room if request.max_tokens is None else min(room, request.max_tokens)
            answers = [await self._answer(place, choice, limit) for choice in range(request.n)]
            self._answers += answers
            prefix = await self._prefix(request.prompts[place])
            for first, group in _groups(self._backend.engine, tokens, [answer.tokens for answer in answers]):
                asked.append(Asked(tokens, group, prefix))
                first_choices.append(place * request.n + first)
        self._jobs = self._backend.submit(self, asked)
        self._first_choice = dict(zip(self._jobs, first_choices, strict=True))
        self._prompt_jobs = [job for job, first in self._first_choice.items() if first % request.n == 0]

    async def _prefix(self, prompt: str) -> list[int] | None:
        """The names of the prompt's blocks; others have their turn while a long one's are computed."""
        block_tokens = self._backend.prefix_block_tokens
        if block_tokens is None:
            return None
        names: list[int] = []
        for name in text.block_names(self.request.model, prompt, block_tokens):
            names.append(name)
            if not len(names) % text.WINDOW_BLOCKS:
                await asyncio.sleep(0)
        return names

    async def _answer(self, place: int, choice: int, limit: int) -> text.Answer:
        """What will be said; others have their turn while stop sequences are searched for in a long answer."""
        request = self.request
        if request.endpoint == "embedding":  # reading the prompt is all the work, but for the step that ends it
            await asyncio.sleep(0)
            return vectors.answer(request, request.prompts[place])
        if self._structured is not None:
            # A large schema takes a while: others have their turn.
            return await asyncio.to_thread(self._structured.answer, request, request.prompts[place], choice, limit)
        whole = text.answer(request, request.prompts[place], choice, limit)
        if not request.stop:
            return whole
        for found in text.cut(whole, request.stop, request.min_tokens):
            if found is not None:
                return found
            await asyncio.sleep(0)
        raise AssertionError("a search ends with an answer")


def _groups(engine: Engine, prompt_tokens: int, lengths: Sequence[int]) -> Iterator[tuple[int, Sequence[int]]]:
    """(place of the first, lengths) of the answers that the engine can hold together, in order."""
    begin = 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or not engine.fits(prompt_tokens, lengths[begin : end + 1]):
            yield begin, lengths[begin:end]
            begin = end
