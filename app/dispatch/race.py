"""Several attempts of one request at once, in real time: whoever begins first is served. A task each, so only if
hedging."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from app.dispatch.attempt import Attempt, Began
from app.dispatch.commands import Ask, Command, Drop, Hold, Refuse, Wake
from app.dispatch.machine import Dispatch, silent
from backends.clock import Clock
from backends.errors import BackendError
from backends.types import Event


class Race:
    """The attempts of one request that are under way."""

    def __init__(self, dispatch: Dispatch, start: Callable[[Ask], Attempt], clock: Clock) -> None:
        self._dispatch = dispatch
        self._start = start
        self._clock = clock
        self._running: dict[asyncio.Task[Event], Attempt] = {}
        self._wake_ns: int | None = None

    async def run(self, commands: Sequence[Command]) -> Began | Sequence[Command]:
        """Carry out commands until an attempt begins, or none is left: then what is to be done instead.

        Cancelled, it drops every attempt.
        """
        try:
            while True:
                if (rest := await self._carry_out(commands)) is not None:
                    return rest
                task = await self._first()
                now_ns = self._clock.now_ns()
                if task is None:
                    commands = self._dispatch.wake(now_ns)
                    continue
                attempt = self._running.pop(task)
                error = task.exception()
                if error is None:
                    await self._carry_out(self._dispatch.began(attempt.number, now_ns))
                    return Began(attempt, task.result())
                if not isinstance(error, BackendError):
                    raise error
                commands = self._dispatch.failed(attempt.number, error, now_ns)
        except asyncio.CancelledError:
            self._dispatch.leave(self._clock.now_ns())
            raise
        finally:
            for task in list(self._running):
                await self._drop(task)

    async def _carry_out(self, commands: Sequence[Command]) -> Sequence[Command] | None:
        for command in commands:
            if isinstance(command, Ask):
                attempt = self._start(command)
                self._running[asyncio.get_running_loop().create_task(attempt.next_event())] = attempt
            elif isinstance(command, Drop):
                task, attempt = next(each for each in self._running.items() if each[1].number == command.number)
                if command.why == "slow":
                    attempt.doom(silent(attempt.decision))
                attempt.lost = command.why == "lost"
                await self._drop(task)
            elif isinstance(command, Wake):
                self._wake_ns = command.at_ns
            elif isinstance(command, Hold | Refuse):
                return [command]
        return None

    async def _first(self) -> asyncio.Task[Event] | None:
        """The first attempt to have an event or a failure; None when the time to wake has come."""
        wake_ns = self._wake_ns
        timeout_s = None if wake_ns is None else max(0.0, (wake_ns - self._clock.now_ns()) / 1e9)
        done, _ = await asyncio.wait(self._running, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return min(done, key=lambda task: self._running[task].number) if done else None

    async def _drop(self, task: asyncio.Task[Event]) -> None:
        attempt = self._running.pop(task)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # it is known; nobody asks for it any more
        await attempt.drop()
