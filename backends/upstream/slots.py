"""As many requests at a time as a service has slots, a bounded number that wait for one, and a refusal beyond.

For a server that would queue without an end. Who has waited as long as a first byte may take leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from backends.errors import BackendTimeout, Saturated
from backends.upstream.transport import Request, Response, Transport

RETRY_AFTER_S = 1.0


class SlotTransport:
    """Another transport behind slots. Create it inside the event loop that will use it."""

    def __init__(self, name: str, inner: Transport, slots: int, max_waiting: int) -> None:
        self._name = name
        self._inner = inner
        self._slots = asyncio.Semaphore(slots)
        self._max_waiting = max_waiting
        self.waiting = 0

    async def send(self, request: Request) -> Response:
        """Raises: Unavailable; BackendTimeout; Saturated."""
        if request.method != "POST":  # a ping takes no slot
            return await self._inner.send(request)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await self._slot(began_s + request.first_byte_s, request.first_byte_s)
        waited_s = loop.time() - began_s
        with ExitStack() as held:
            held.callback(self._slots.release)
            left = request._replace(first_byte_s=max(0.0, request.first_byte_s - waited_s))
            return SlotResponse(await self._inner.send(left), held.pop_all().close)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _slot(self, deadline_s: float, patience_s: float) -> None:
        if self._slots.locked() and self.waiting >= self._max_waiting:
            raise Saturated(f"all slots of {self._name} are taken, and {self.waiting} requests wait", RETRY_AFTER_S)
        self.waiting += 1
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._slots.acquire()
        except TimeoutError:
            raise BackendTimeout(f"{self._name} had no slot within {patience_s:g} s") from None
        finally:
            self.waiting -= 1


class SlotResponse:
    """An answer that holds a slot until it is closed."""

    def __init__(self, response: Response, release: Callable[[], None]) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._release: Callable[[], None] | None = release

    async def read(self) -> bytes:
        """Raises: BackendTimeout; StreamCut."""
        return await self._response.read()

    async def aclose(self) -> None:
        release, self._release = self._release, None
        try:
            await self._response.aclose()
        finally:
            if release is not None:
                release()
