"""An answer under way: events to be written out, and what is known of where they come from.

`LiveAnswer` comes from a backend, `ReplayedAnswer` from the cache; the writer cannot tell them apart.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Literal, Protocol, Self

from app.cache.base import CachedAnswer, CachedChoice
from app.dispatch.dispatcher import Opened
from app.errors import from_backend
from app.metering.cost import CostLines
from app.routing.types import Decision, Slo
from backends.clock import Clock
from backends.errors import BackendError
from backends.types import ChoiceEnd, Event, FinishReason, TokenChunk, Usage

CacheResult = Literal["hit", "semantic", "coalesced", "miss", "off"]

REPEATABLE = ("stop", "length")
"""Ends of answers that the cache may keep."""


class Answer(Protocol):
    """What the API needs of an answer. `cost`, `energy_j` (an estimate, None if there is none) and `usage` are final
    once iteration has ended."""

    model: str
    cache: CacheResult
    attempts: int
    decision: Decision | None
    cost: CostLines | None
    energy_j: float | None
    saved_nusd: int | None
    waited_ns: int
    slo: Slo

    def __aiter__(self) -> AsyncIterator[Event]: ...

    def usage(self) -> Usage: ...

    async def aclose(self) -> None: ...


class LiveAnswer:
    """Events of a running attempt. Text is kept only if `keep` is given: called with a complete answer."""

    def __init__(
        self,
        model: str,
        cache: CacheResult,
        opened: Opened,
        clock: Clock,
        keep: Callable[[LiveAnswer], Awaitable[None]] | None,
    ) -> None:
        attempt = opened.attempt
        self.model = model
        self.cache: CacheResult = cache
        self.attempts = attempt.number
        self.decision: Decision | None = attempt.decision
        self.cost: CostLines | None = None
        self.energy_j: float | None = None
        self.saved_nusd: int | None = None
        self.waited_ns = opened.waited_ns
        self.slo = attempt.decision.request.slo
        self.attempt = attempt
        self._first: Event | None = opened.first
        self._clock = clock
        self._keep = keep
        self._texts: list[list[str]] = [[] for _ in range(attempt.request.choices)] if keep else []
        self._reasons: dict[int, FinishReason] = {}

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Raises: ApiError when the backend fails midway."""
        event = self._first
        if event is not None:
            self._first = None
        else:
            before_ns = self._clock.now_ns()
            try:
                event = await self.attempt.next_event()
            except StopAsyncIteration:
                if self._keep is not None:
                    await self._keep(self)
                raise
            except BackendError as error:
                raise from_backend(error) from error
            finally:
                self.waited_ns += self._clock.now_ns() - before_ns
        if self._keep is not None:
            self._remember(event)
        return event

    def usage(self) -> Usage:
        return self.attempt.usage()

    async def aclose(self) -> None:
        """Cancels the attempt if it still runs."""
        await self.attempt.cancel()

    def complete(self, stored_wall_ns: int) -> CachedAnswer:
        """The whole answer, as the cache keeps it."""
        view = self.attempt.chosen.view
        return CachedAnswer(
            choices=tuple(
                CachedChoice("".join(texts), self._reasons[index]) for index, texts in enumerate(self._texts)
            ),
            usage=self.usage(),
            model=self.model,
            backend=view.name,
            substrate=view.substrate,
            stored_wall_ns=stored_wall_ns,
            cost_nusd=None if self.cost is None else self.cost.total_nusd,
        )

    def _remember(self, event: Event) -> None:
        """What the cache keeps is text. An answer that is more than that cannot be repeated, so it is not kept."""
        if type(event) is TokenChunk:
            self._texts[event.index].append(event.text)
            if not event.plain:
                self._keep = None
        elif type(event) is ChoiceEnd:
            self._reasons[event.index] = event.reason
            if event.reason not in REPEATABLE:
                self._keep = None


class ReplayedAnswer:
    """A cached answer, event by event: a choice's whole text, then its end. Costs nothing, records what it saved."""

    def __init__(self, cached: CachedAnswer, cost: CostLines, slo: Slo) -> None:
        self.cached = cached
        self.model = cached.model
        self.cache: CacheResult = "hit"
        self.attempts = 0
        self.decision: Decision | None = None
        self.cost: CostLines | None = cost
        self.energy_j: float | None = 0.0
        self.saved_nusd = cached.cost_nusd
        self.waited_ns = 0
        self.slo = slo

    async def __aiter__(self) -> AsyncIterator[Event]:
        for index, choice in enumerate(self.cached.choices):
            if choice.text:
                yield TokenChunk(index, choice.text, 0)
            yield ChoiceEnd(index, choice.finish_reason)

    def usage(self) -> Usage:
        """The real token counts, all prompt tokens as cached ones."""
        return replayed_usage(self.cached.usage)

    async def aclose(self) -> None:
        """Nothing to free."""


def replayed_usage(usage: Usage) -> Usage:
    """The usage of a cache hit: nothing was read anew."""
    return replace(usage, prompt_tokens=0, cached_tokens=usage.prompt_tokens + usage.cached_tokens)
