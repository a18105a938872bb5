"""Events later than the engine made them: each `factor` times as far from the beginning."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from backends.base import Generation
from backends.clock import Clock
from backends.errors import BackendError
from backends.types import Event


async def slowed(generation: Generation, clock: Clock, factor: float) -> AsyncIterator[Event]:
    """The generation's events; a task reads them as they come, so that the engine's own times are known.

    Raises: BackendError, as late as everything else.
    """
    started_ns = clock.now_ns()
    arrived: asyncio.Queue[tuple[int, Event | BackendError | None]] = asyncio.Queue()

    async def read() -> None:
        last: BackendError | None = None
        try:
            async for event in generation:
                arrived.put_nowait((clock.now_ns(), event))
        except BackendError as error:
            last = error
        arrived.put_nowait((clock.now_ns(), last))

    reader = asyncio.create_task(read(), name="slowed generation")
    try:
        while True:
            came_ns, event = await arrived.get()
            await clock.sleep_until(started_ns + int((came_ns - started_ns) * factor))
            if event is None:
                return
            if isinstance(event, BackendError):
                raise event
            yield event
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
