"""The little of ASGI that the hot endpoints need: typed callables, a bounded body, a client that may leave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Self

from app.errors import PayloadTooLarge

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

DISCONNECT = "turnout.disconnect"
"""Extension of a scope: `when_lost(function)` has it called when the client has gone, `when_lost(None)` does not;
`hang_up()` closes the connection after what was written."""

DISCARD_FACTOR = 8
"""An oversized body is read to its end up to this many limits, so that the client sees the 413, not a reset."""


class ClientGone(Exception):
    """The client closed the connection before its request was answered."""


async def read_body(receive: Receive, limit_bytes: int) -> bytes:
    """The whole request body.

    Raises: PayloadTooLarge; ClientGone.
    """
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
        return body
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size <= limit_bytes:
            parts.append(part)
        elif size > limit_bytes * DISCARD_FACTOR:
            break
    if size > limit_bytes:
        raise _too_large(limit_bytes)
    return b"".join(parts)


def _too_large(limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body exceeds {limit_bytes:,} bytes that are allowed")


class CancelOnDisconnect:
    """While inside, the current task is cancelled when the client goes away; then `gone` is true.

    A server that offers the `turnout.disconnect` extension calls back; beside any other, a task waits for its message.
    Leave before the last byte is sent: a server reports a finished response as a disconnect too.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.gone = False
        self._extension = scope.get("extensions", {}).get(DISCONNECT)
        self._receive = receive
        self._task: asyncio.Task[Any] | None = None
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        if self._extension is None:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())
        else:
            self._extension["when_lost"](self._client_gone)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._extension is not None:
            self._extension["when_lost"](None)
        if self._watcher is not None:
            self._watcher.cancel()
        task, self._task = self._task, None
        if self.gone and isinstance(error, asyncio.CancelledError):
            assert task is not None
            task.uncancel()
            raise ClientGone from None

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._client_gone()

    def _client_gone(self) -> None:
        if self._task is not None:
            self.gone = True
            self._task.cancel()
