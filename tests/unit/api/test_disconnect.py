"""A client that leaves cancels its request, whether the server calls back or has to be asked; nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from app.api.asgi import DISCONNECT, CancelOnDisconnect, ClientGone, Message
from app.protocol import GatewayProtocol


class Client:
    """A connection as a server tells of it: by the extension, or by what `receive` returns."""

    def __init__(self, *, extension: bool) -> None:
        self.scope: dict[str, Any] = {"extensions": {DISCONNECT: {"when_lost": self.when_lost}}} if extension else {}
        self.callback: Callable[[], None] | None = None
        self.asked = 0
        self._gone = asyncio.Event()

    def when_lost(self, callback: Callable[[], None] | None) -> None:
        self.callback = callback

    async def receive(self) -> Message:
        self.asked += 1
        await self._gone.wait()
        return {"type": "http.disconnect"}

    def leave(self) -> None:
        self._gone.set()
        if self.callback is not None:
            self.callback()


@pytest.mark.parametrize("extension", [True, False])
async def test_leaving_ends_what_is_awaited(extension: bool) -> None:
    client = Client(extension=extension)
    asyncio.get_running_loop().call_soon(client.leave)
    watch = CancelOnDisconnect(client.scope, client.receive)
    with pytest.raises(ClientGone), watch:
        await asyncio.Event().wait()
    assert watch.gone
    current = asyncio.current_task()
    assert current is not None
    assert not current.cancelling()
    await asyncio.sleep(0)
    assert client.asked == (0 if extension else 1)


@pytest.mark.parametrize("extension", [True, False])
async def test_leaving_afterwards_does_nothing(extension: bool) -> None:
    client = Client(extension=extension)
    with CancelOnDisconnect(client.scope, client.receive) as watch:
        await asyncio.sleep(0)
    late = client.callback
    client.leave()
    watch._client_gone()
    await asyncio.sleep(0)
    assert (late, watch.gone) == (None, False)


@pytest.mark.parametrize("extension", [True, False])
async def test_a_cancelled_server_task_is_not_a_client_that_left(extension: bool) -> None:
    client = Client(extension=extension)

    async def request() -> None:
        with CancelOnDisconnect(client.scope, client.receive):
            await asyncio.Event().wait()

    task = asyncio.create_task(request())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_ones_own_passes() -> None:
    client = Client(extension=True)
    with pytest.raises(ZeroDivisionError), CancelOnDisconnect(client.scope, client.receive):
        raise ZeroDivisionError
    assert client.callback is None


async def test_the_protocol_tells_a_latecomer_that_its_client_has_gone() -> None:
    protocol = GatewayProtocol(uvicorn.Config(lambda: None), ServerState(), {})
    protocol.connection_lost(ConnectionResetError())
    told: list[bool] = []
    protocol.when_lost(lambda: told.append(True))
    assert not told, "never from within the call"
    await asyncio.sleep(0)
    assert told == [True]
