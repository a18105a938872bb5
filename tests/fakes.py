"""Backends that do as they are told. They pass the same contract suite as the emulated ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from backends.errors import BackendError, StreamCut
from backends.types import (
    BackendInfo,
    BackendSnapshot,
    ChoiceEnd,
    DeploymentInfo,
    EngineShare,
    Event,
    GenerationRequest,
    LatencyProfile,
    TokenChunk,
    Usage,
)

PROFILE = LatencyProfile(0.01, 1e-5, 0.01, 1e-5, 64, "shared")


@dataclass(frozen=True, slots=True)
class Script:
    """What a generation does: words to say, how long to wait before each, and how to fail.

    `delay_s` passes before each event; `hang_before` waits for ever (or for `gate`) before the word of that number;
    `fail_after` raises `error` after that many words (0 = before the first byte).
    """

    words: tuple[str, ...] = ("hello", " world")
    hang_before: int | None = None
    gate: asyncio.Event | None = None
    fail_after: int | None = None
    error: Callable[[], BackendError] = lambda: StreamCut("cut by script")
    delay_s: float = 0.0
    prompt_ns: int = 1_000_000
    word_ns: int = 2_000_000


class ScriptedGeneration:
    """Plays a script for one request."""

    def __init__(self, backend: ScriptedBackend, request: GenerationRequest, script: Script) -> None:
        self._backend = backend
        self._request = request
        self._script = script
        self._said = 0
        self._events = iter(self._play())
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._closed:
            raise StopAsyncIteration
        if self._script.delay_s:
            await asyncio.sleep(self._script.delay_s)
        if self._script.hang_before == self._said:
            await (self._script.gate or asyncio.Event()).wait()
        if self._script.fail_after == self._said:
            await self.aclose()
            raise self._script.error()
        event = next(self._events, None)
        if event is None:
            await self.aclose()
            raise StopAsyncIteration
        if type(event) is TokenChunk:
            self._said += 1
            self._backend.busy_ns += self._script.word_ns + (self._script.prompt_ns if self._said == 1 else 0)
        return event

    def usage(self) -> Usage:
        started = self._said > 0
        words = sum(len(prompt.split()) for prompt in self._request.prompts)
        return Usage(prompt_tokens=words if started else 0, completion_tokens=self._said)

    def engine_share(self) -> EngineShare | None:
        started = self._said > 0
        return EngineShare(self._script.prompt_ns if started else 0, self._said * self._script.word_ns)

    def service_times(self) -> None:
        """It tells nothing."""
        return

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._backend.running -= 1

    def _play(self) -> Sequence[Event]:
        events: list[Event] = []
        words = self._script.words[: self._request.max_tokens]
        for index in range(self._request.choices):
            events += [TokenChunk(index, word, 1) for word in words]
            events.append(ChoiceEnd(index, "stop" if len(words) == len(self._script.words) else "length"))
        return events


class ScriptedBackend:
    """Answers each request by the next script (the last one repeats)."""

    def __init__(
        self, name: str = "scripted", model: str = "m", scripts: Sequence[Script] = (Script(),), context: int = 8192
    ) -> None:
        self.info = BackendInfo(
            name,
            "gpu",
            "emulated",
            "fake",
            1,
            {model: DeploymentInfo(model, "fp8", context, PROFILE)},
        )
        self.scripts = list(scripts)
        self.requests: list[GenerationRequest] = []
        self.generations: list[ScriptedGeneration] = []
        self.running = 0
        self.busy_ns = 0
        self.started = False
        self.closed = False
        self.warmed = 0

    async def start(self) -> None:
        self.started = True

    def generate(self, request: GenerationRequest) -> ScriptedGeneration:
        script = self.scripts[min(len(self.requests), len(self.scripts) - 1)]
        self.requests.append(request)
        self.running += 1
        self.generations.append(ScriptedGeneration(self, request, script))
        return self.generations[-1]

    def snapshot(self) -> BackendSnapshot:
        return BackendSnapshot(running=self.running, busy_ns=self.busy_ns)

    async def ping(self) -> None:
        return None

    def warm(self) -> None:
        self.warmed += 1

    async def aclose(self) -> None:
        self.closed = True
        for generation in self.generations:
            await generation.aclose()
