"""An answer under way: events to be written out, and what is known of where they come from.

`LiveAnswer` comes from a backend, `ReplayedAnswer` from the cache, `SharedAnswer` (app.flights) from a generation that
others read too; the writer cannot tell them apart.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Literal, Protocol, Self

from app.cache.shared import End, Publisher
from app.cache.tiers import Found
from app.dispatch.dispatcher import Opened
from app.errors import from_backend
from app.metering.cost import FREE, CostLines
from app.recording import Recorder, events_of
from app.routing.types import Decision, Slo
from backends.clock import Clock
from backends.errors import BackendError
from backends.types import Event, Usage

CacheResult = Literal["hit", "semantic", "coalesced", "miss", "off"]


class Answer(Protocol):
    """What the API needs of an answer. `cost`, `energy_j` (an estimate, None if there is none), `saved_nusd` and
    `usage` are final once iteration has ended; `age_s` is how long ago it was made and `entry` its
    name in the cache, None for one that is new."""

    @property
    def model(self) -> str: ...

    @property
    def cache(self) -> CacheResult: ...

    @property
    def attempts(self) -> int: ...

    @property
    def decision(self) -> Decision | None: ...

    @property
    def cost(self) -> CostLines | None: ...

    @property
    def energy_j(self) -> float | None: ...

    @property
    def saved_nusd(self) -> int | None: ...

    @property
    def waited_ns(self) -> int: ...

    @property
    def slo(self) -> Slo: ...

    @property
    def age_s(self) -> float | None: ...

    @property
    def entry(self) -> str | None: ...

    def __aiter__(self) -> AsyncIterator[Event]: ...

    def usage(self) -> Usage: ...

    async def aclose(self) -> None: ...


class LiveAnswer:
    """Events of a running attempt, heard by a recorder if `keep` is given: called with an answer that ended whole."""

    saved_nusd: int | None = None
    age_s: float | None = None
    entry: str | None = None

    def __init__(
        self,
        model: str,
        cache: CacheResult,
        opened: Opened,
        clock: Clock,
        recorder: Recorder | None = None,
        publisher: Publisher | None = None,
        keep: Callable[[LiveAnswer], Awaitable[None]] | None = None,
    ) -> None:
        attempt = opened.attempt
        self.model = model
        self.cache: CacheResult = cache
        self.attempts = attempt.number
        self.decision: Decision | None = attempt.decision
        self.cost: CostLines | None = None
        self.energy_j: float | None = None
        self.waited_ns = opened.waited_ns
        self.slo = attempt.decision.request.slo
        self.attempt = attempt
        self.recorder = recorder
        self._publisher = publisher
        self._first: Event | None = opened.first
        self._clock = clock
        self._keep = keep

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
                if self._keep is not None and self.recorder is not None and self.recorder.whole:
                    await self._keep(self)
                self._publish_end()
                raise
            except BackendError as error:
                if self._publisher is not None:
                    self._publisher.failed(str(error))
                raise from_backend(error) from error
            finally:
                self.waited_ns += self._clock.now_ns() - before_ns
        if self.recorder is not None:
            self.recorder.hear(event)
        if self._publisher is not None:
            self._publisher.hear(event)
        return event

    @property
    def made_by(self) -> tuple[str, str]:
        """Backend and substrate."""
        view = self.attempt.chosen.view
        return view.name, view.substrate

    def usage(self) -> Usage:
        return self.attempt.usage()

    async def aclose(self) -> None:
        """Cancels the attempt if it still runs."""
        await self.attempt.cancel()
        if self._publisher is not None:
            await self._publisher.aclose()

    def _publish_end(self) -> None:
        if self._publisher is not None:
            cost_nusd = None if self.cost is None else self.cost.total_nusd
            self._publisher.end(End(self.usage(), cost_nusd, *self.made_by))


class ReplayedAnswer:
    """A cached answer, event by event: a choice's whole text, then its end. Costs nothing, records what it saved."""

    attempts = 0
    decision: Decision | None = None
    energy_j: float | None = 0.0
    waited_ns = 0

    def __init__(self, found: Found, slo: Slo, kind: CacheResult = "hit") -> None:
        self.cached = found.answer
        self.entry: str | None = found.key.hex()
        self.model = found.answer.model
        self.cache: CacheResult = kind
        self.cost: CostLines | None = FREE
        self.saved_nusd = found.answer.cost_nusd
        self.slo = slo
        self.age_s: float | None = found.age_s

    async def __aiter__(self) -> AsyncIterator[Event]:
        for event in events_of(self.cached.choices):
            yield event

    def usage(self) -> Usage:
        """The real token counts, all prompt tokens as cached ones."""
        return replayed_usage(self.cached.usage)

    async def aclose(self) -> None:
        """Nothing to free."""


def replayed_usage(usage: Usage) -> Usage:
    """The usage of a cache hit: nothing was read anew."""
    return replace(usage, prompt_tokens=0, cached_tokens=usage.prompt_tokens + usage.cached_tokens)
