"""One page of text of a service, read again and again: what its /metrics says. Over connections of its own, since those
of requests may all be taken just when its load is of interest."""

from __future__ import annotations

import asyncio

from backends.errors import BackendTimeout, Unavailable
from backends.upstream.transport import HttpxTransport, Limits, Request, Transport

MAX_BYTES = 4 * 1024 * 1024


class Page:
    """Make it inside the event loop that will read it; `transport` stands in for httpx."""

    def __init__(self, name: str, url: str, timeout_s: float, transport: Transport | None = None) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._request = Request("GET", url, {"accept": "text/plain"}, b"", timeout_s)
        limits = Limits(connect_s=timeout_s, idle_s=timeout_s, max_connections=2)
        self._transport = transport or HttpxTransport(name, url, limits)

    async def read(self) -> str:
        """All of it, within the timeout.

        Raises: BackendError.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._read()
        except TimeoutError:
            raise BackendTimeout(f"{self._name} gave no metrics within {self._timeout_s:g} s") from None

    async def aclose(self) -> None:
        """Close its connections. Idempotent."""
        await self._transport.aclose()

    async def _read(self) -> str:
        response = await self._transport.send(self._request)
        try:
            if response.status != 200:
                raise Unavailable(f"{self._name} answered {response.status} to a request for its metrics")
            pieces, size = [], 0
            while piece := await response.read():
                pieces.append(piece)
                size += len(piece)
                if size > MAX_BYTES:
                    raise Unavailable(f"{self._name} sent metrics of more than {MAX_BYTES:,} bytes")
        finally:
            await response.aclose()
        return b"".join(pieces).decode("utf-8", "replace")
