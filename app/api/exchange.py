"""One request on the wire and what has become of it so far."""

from __future__ import annotations

from dataclasses import dataclass

from app.answers import Answer, CacheResult
from app.api.asgi import Message, Send
from app.api.wires.base import Wire
from app.call import NO_OPTIONS, Call, Options
from app.errors import ApiError
from backends.clock import Clock


@dataclass(slots=True)
class Exchange:
    """Filled in as the request proceeds; `status` 0 means that no header has been sent."""

    wire: Wire
    request_id: str
    started_ns: int
    send: Send
    options: Options = NO_OPTIONS
    call: Call | None = None
    model: str | None = None
    answer: Answer | None = None
    cache: CacheResult = "off"
    error: ApiError | None = None
    status: int = 0
    sending_ns: int = 0

    async def write(self, message: Message, clock: Clock) -> None:
        """Send, keeping count of the time a slow reader takes."""
        before_ns = clock.now_ns()
        await self.send(message)
        self.sending_ns += clock.now_ns() - before_ns
