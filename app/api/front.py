"""The gateway's front door: the hot endpoints go straight to plain ASGI, everything else to FastAPI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from app.api.asgi import Headers, Message, Receive, Scope, Send
from app.api.headers import client_request_id
from app.api.hot import HotEndpoints
from app.api.response_headers import ResponseHeaders
from app.api.wires.base import Wire
from app.api.wires.embeddings import EMBEDDINGS
from app.api.wires.messages import COUNT_TOKENS, MESSAGES
from app.api.wires.openai import CHAT, COMPLETION
from app.api.wires.responses import INPUT_TOKENS, RESPONSES
from app.ids import Ids
from backends.clock import Clock

HOT: dict[str, Wire] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETION,
    "/v1/embeddings": EMBEDDINGS,
    "/v1/responses": RESPONSES,
    "/v1/responses/input_tokens": INPUT_TOKENS,
    "/v1/messages": MESSAGES,
    "/v1/messages/count_tokens": COUNT_TOKENS,
}

AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class Front:
    """An ASGI application; `running()` is entered at lifespan start-up and left at shutdown. Another `hot` may take
    over: a request stays with the one it began with."""

    def __init__(
        self, hot: HotEndpoints, rest: AsgiApp, running: Callable[[], AbstractAsyncContextManager[Any]]
    ) -> None:
        self.hot = hot
        self._rest = rest
        self._running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http" and (wire := HOT.get(scope["path"])) is not None:
            await self.hot(wire, scope, receive, send)
        else:
            await self._rest(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        async with AsyncExitStack() as stack:
            await receive()
            try:
                await stack.enter_async_context(self._running())
            except Exception as error:
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                raise
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


class CommonHeaders:
    """Pure ASGI middleware: `x-request-id`, `x-turnout-config` and `x-turnout-overhead-ms` on every response."""

    def __init__(self, app: AsgiApp, headers: Callable[[], ResponseHeaders], ids: Ids, clock: Clock) -> None:
        self._app = app
        self._headers = headers
        self._ids = ids
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_ns = self._clock.now_ns()
        sent_id = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = client_request_id(sent_id.decode("latin-1")) or self._ids.request()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours: Headers = self._headers().always(request_id, self._clock.now_ns() - started_ns)
                message["headers"] = [*message.get("headers", ()), *ours]
            await send(message)

        await self._app(scope, receive, send_with_headers)
