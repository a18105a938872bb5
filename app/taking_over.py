"""An answer that another process generates, and what becomes of it when that process stops."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Self

from app.answers import LiveAnswer
from app.cache.shared import Follower, GenerationFailed, HolderGone
from app.errors import UpstreamFailed
from app.metering.cost import CostLines
from app.routing.types import Decision, Slo
from backends.types import ChoiceEnd, Event, TokenChunk, Usage


class FollowedAnswer:
    """Events of a generation elsewhere. If its process stops, `again` finds another source: of what that says, as much
    as has been said is passed over, if it is the same."""

    attempts = 0
    decision: Decision | None = None
    energy_j: float | None = 0.0
    waited_ns = 0

    def __init__(
        self, model: str, slo: Slo, follower: Follower, again: Callable[[], Awaitable[LiveAnswer | FollowedAnswer]]
    ) -> None:
        self.model = model
        self.slo = slo
        self._follower = follower
        self._again = again
        self._events: deque[Event] = deque()
        self._instead: LiveAnswer | FollowedAnswer | None = None
        self._said: dict[int, str] = {}
        self._to_skip: dict[int, str] = {}
        self._plain = True

    @property
    def cost(self) -> CostLines | None:
        """What it cost whoever generated it."""
        if self._instead is not None:
            return self._instead.cost
        end = self._follower.end
        return None if end is None or end.cost_nusd is None else CostLines(request_nusd=end.cost_nusd)

    @property
    def made_by(self) -> tuple[str, str]:
        """Backend and substrate."""
        if self._instead is not None:
            return self._instead.made_by
        end = self._follower.end
        return ("", "") if end is None else (end.backend, end.substrate)

    def usage(self) -> Usage:
        if self._instead is not None:
            return self._instead.usage()
        return Usage() if self._follower.end is None else self._follower.end.usage

    async def first(self) -> Self | LiveAnswer | FollowedAnswer:
        """Itself once it has an event; what took its place if it never will.

        Raises: ApiError.
        """
        try:
            await self._fetch()
        except HolderGone:
            return await self._again()
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Raises: ApiError."""
        while True:
            if self._instead is None and not self._events:
                try:
                    await self._fetch()
                except HolderGone:
                    self._instead = await self._again()
                    self._to_skip = dict(self._said)
            if self._instead is not None:
                event = self._passed_over(await anext(self._instead))
            elif self._events:
                event = self._events.popleft()
                self._remember(event)
            else:
                raise StopAsyncIteration
            if event is not None:
                return event

    async def aclose(self) -> None:
        if self._instead is not None:
            await self._instead.aclose()

    async def _fetch(self) -> None:
        try:
            self._events.extend(await self._follower.more())
        except GenerationFailed as error:
            raise UpstreamFailed(str(error)) from None

    def _remember(self, event: Event) -> None:
        if type(event) is TokenChunk:
            self._said[event.index] = self._said.get(event.index, "") + event.text
            self._plain = self._plain and event.plain

    def _passed_over(self, event: Event) -> Event | None:
        """What of an event has not been said.

        Raises: UpstreamFailed if the new answer is another one than had been begun.
        """
        left = self._to_skip.get(event.index, "")
        if not left:
            return event
        if type(event) is ChoiceEnd or not self._plain:
            raise UpstreamFailed("the gateway that generated this answer stopped, and it came out otherwise again")
        assert type(event) is TokenChunk
        common = min(len(left), len(event.text))
        if not event.plain or event.text[:common] != left[:common]:
            raise UpstreamFailed("the gateway that generated this answer stopped, and it came out otherwise again")
        self._to_skip[event.index] = left[common:]
        rest = event.text[common:]
        return TokenChunk(event.index, rest, event.tokens) if rest else None
