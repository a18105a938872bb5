"""Single flight: of identical requests at the same time one is asked, and all read its answer as it comes.

The generation belongs to none of them. It runs in a task of its own, goes on while anybody reads, and is cancelled when
the last reader has left: who asked first may leave without taking the answer from the others. It is held back by its
fastest reader, so nobody's patience fills memory with what nobody reads yet. What was said is kept until the end, for
those who come late; a flight that has said more than `max_bytes`, or has `max_followers`, takes no more of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Self

from app.answers import CacheResult, LiveAnswer, replayed_usage
from app.errors import ApiError, InternalError
from app.metering.cost import FREE, CostLines
from app.routing.types import Decision, Slo
from app.taking_over import FollowedAnswer
from backends.types import Event, TokenChunk, Usage

AHEAD = 32
"""How many events a generation may be ahead of its fastest reader."""

Source = LiveAnswer | FollowedAnswer

log = logging.getLogger("turnout.flights")


class Flights:
    """The generations that may be joined, by their requests' keys."""

    def __init__(self, max_followers: int, max_bytes: int) -> None:
        self._max_followers = max_followers
        self._max_bytes = max_bytes
        self._flying: dict[bytes, Flight] = {}

    def joinable(self, key: bytes) -> Flight | None:
        """A flight that answers this, if it takes one more reader."""
        flight = self._flying.get(key)
        if flight is None or flight.leaving or flight.over or flight.said_bytes > self._max_bytes:
            return None
        return flight if flight.readers <= self._max_followers else None

    def begin(self, key: bytes, ask: Callable[[], Awaitable[Source]]) -> Flight:
        """A new flight, which others may join until it is over."""
        flight = Flight(ask)
        self._flying[key] = flight
        flight.task.add_done_callback(lambda _: self._landed(key, flight))
        return flight

    async def aclose(self) -> None:
        """Wait for those that are under way."""
        while self._flying:
            await asyncio.wait([flight.task for flight in self._flying.values()])

    def _landed(self, key: bytes, flight: Flight) -> None:
        if not flight.task.cancelled() and (bug := flight.task.exception()) is not None:
            log.error("a shared generation failed", exc_info=bug)
        if self._flying.get(key) is flight:
            del self._flying[key]


class Flight:
    """One generation and what it has said so far."""

    def __init__(self, ask: Callable[[], Awaitable[Source]]) -> None:
        self._ask = ask
        self.source: Source | None = None
        self.events: list[Event] = []
        self.said_bytes = 0
        self.error: ApiError | None = None
        self.over = False
        self.leaving = False
        self.readers = 0
        self._ended = False
        self._furthest = 0
        self._news: list[asyncio.Future[None]] = []
        self._room: asyncio.Future[None] | None = None
        self.task = asyncio.get_running_loop().create_task(self._fly())

    async def opened(self) -> Source:
        """Where its events come from, once the first of them exists.

        Raises: ApiError.
        """
        while self.source is None and not self.over:
            await self.news()
        if self.source is None:
            raise self._failure()
        return self.source

    async def at(self, place: int) -> Event:
        """The event at a place.

        Raises: StopAsyncIteration beyond the last; ApiError where it broke off.
        """
        while place >= len(self.events):
            if self.over:
                if self.error is None:
                    raise StopAsyncIteration
                raise self._failure()
            await self.news()
        if place >= self._furthest:
            self._furthest = place + 1
            if self._room is not None and not self._room.done():
                self._room.set_result(None)
        return self.events[place]

    async def news(self) -> None:
        """Wait until there is more, or an end."""
        future = asyncio.get_running_loop().create_future()
        self._news.append(future)
        await future

    async def left(self) -> None:
        """A reader needs no more. The last one takes the generation with it, and waits until it is settled."""
        self.readers -= 1
        if self.readers or self.over:
            return
        self.leaving = True
        self.task.cancel()
        await asyncio.wait([self.task])

    async def _fly(self) -> None:
        try:
            self.source = source = await self._ask()
            self._tell()
            try:
                async for event in source:
                    await self._take(event)
                self.over = self._ended = True
                self._tell()
            finally:
                await source.aclose()
        except ApiError as error:
            self.error = error
        finally:
            if not self._ended and self.error is None:  # a bug, or nobody reads any more
                self.error = InternalError("internal error; see the gateway's log")
            self.over = True
            self._tell()

    async def _take(self, event: Event) -> None:
        self.events.append(event)
        self.said_bytes += len(event.raw or b"") + (len(event.text) if type(event) is TokenChunk else 0)
        self._tell()
        while len(self.events) - self._furthest > AHEAD:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def _tell(self) -> None:
        news, self._news = self._news, []
        for future in news:
            if not future.done():
                future.set_result(None)

    def _failure(self) -> ApiError:
        """One error is raised to many: each traceback begins anew."""
        assert self.error is not None
        return self.error.with_traceback(None)


class SharedAnswer:
    """One reader's view of a flight. Who began it pays, as for an answer of its own; who joined pays nothing and saves
    what the generation costs."""

    age_s: float | None = None
    entry: str | None = None

    def __init__(self, flight: Flight, source: Source, slo: Slo, waited_ns: int, *, leads: bool) -> None:
        """`leads`: for whom it was begun, if it was begun here."""
        self._flight = flight
        self._source = source
        self._leads = leads
        self._place = 0
        self._closed = False
        self.landed: Callable[[], None] | None = None
        """Called once, when all of an answer that came to its end has been read."""

        self.model = source.model
        self.cache: CacheResult = "miss" if leads else "coalesced"
        self.attempts = source.attempts if leads else 0
        self.decision: Decision | None = source.decision if leads else None
        self.slo = slo
        self._waited_ns = waited_ns

    @property
    def cost(self) -> CostLines | None:
        return self._source.cost if self._leads else FREE

    @property
    def energy_j(self) -> float | None:
        return self._source.energy_j if self._leads else 0.0

    @property
    def saved_nusd(self) -> int | None:
        if self._leads or self._source.cost is None:
            return None
        return self._source.cost.total_nusd

    @property
    def waited_ns(self) -> int:
        return self._source.waited_ns if self._leads else self._waited_ns

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        try:
            event = await self._flight.at(self._place)
        except StopAsyncIteration:
            landed, self.landed = self.landed, None
            if landed is not None:
                landed()
            raise
        self._place += 1
        return event

    def usage(self) -> Usage:
        usage = self._source.usage()
        return usage if self._leads else replayed_usage(usage)

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await self._flight.left()
