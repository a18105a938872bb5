"""Where time comes from. Nothing in Turnout reads a clock of its own.

`SystemClock` is the machine's; `ScaledClock` runs faster or slower than another; `VirtualClock` moves only when told
to, so that hours of traffic can be replayed in seconds and tests never sleep.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from itertools import count
from math import ceil
from typing import Protocol


class Clock(Protocol):
    """Monotonic nanoseconds, wall-clock nanoseconds, and a way to wait."""

    def now_ns(self) -> int:
        """Monotonic time in nanoseconds; only differences mean anything."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""
        ...

    async def sleep_until(self, when_ns: int) -> None:
        """Return once `now_ns()` has reached `when_ns`; yields to the loop at least once."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.time_ns()

    async def sleep_until(self, when_ns: int) -> None:
        await asyncio.sleep(max(0, when_ns - time.monotonic_ns()) / 1e9)


class ScaledClock:
    """Another clock, run `factor` times as fast from the moment it is made: an hour of an engine's time in minutes."""

    def __init__(self, clock: Clock, factor: float) -> None:
        self._clock = clock
        self._factor = factor
        self._start_ns = clock.now_ns()
        self._wall_start_ns = clock.wall_ns()

    def now_ns(self) -> int:
        return self._start_ns + self._passed_ns()

    def wall_ns(self) -> int:
        return self._wall_start_ns + self._passed_ns()

    async def sleep_until(self, when_ns: int) -> None:
        await self._clock.sleep_until(self._start_ns + ceil((when_ns - self._start_ns) / self._factor))

    def _passed_ns(self) -> int:
        return int((self._clock.now_ns() - self._start_ns) * self._factor)


class VirtualClock:
    """Time that passes only by `advance_to`; sleepers wake in order of their deadline, then of arrival."""

    def __init__(self, start_ns: int = 0, wall_start_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now_ns = start_ns
        self._wall_offset_ns = wall_start_ns - start_ns
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()

    def now_ns(self) -> int:
        return self._now_ns

    def wall_ns(self) -> int:
        return self._now_ns + self._wall_offset_ns

    async def sleep_until(self, when_ns: int) -> None:
        if when_ns <= self._now_ns:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (when_ns, next(self._order), future))
        await future

    def next_deadline_ns(self) -> int | None:
        """When the earliest sleeper wants to wake; None if nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    async def advance_to(self, when_ns: int) -> None:
        """Move to `when_ns`, waking each sleeper on the way at its own deadline."""
        await self._settle()
        while (deadline := self.next_deadline_ns()) is not None and deadline <= when_ns:
            self._now_ns = max(self._now_ns, deadline)
            heapq.heappop(self._sleepers)[2].set_result(None)
            await self._settle()
        self._now_ns = max(self._now_ns, when_ns)
        await self._settle()

    async def _settle(self) -> None:
        """Let woken tasks run until they sleep again; a task needs a few passes of the loop to get there."""
        for _ in range(20):
            await asyncio.sleep(0)
