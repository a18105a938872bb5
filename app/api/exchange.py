"""One request on the wire and what has become of it so far."""

from __future__ import annotations

from dataclasses import dataclass

from app.answers import Answer
from app.api.asgi import Send
from app.call import NO_OPTIONS, Call, Options
from backends.types import Endpoint


@dataclass(slots=True)
class Exchange:
    """Filled in as the request proceeds; `status` 0 means that no header has been sent."""

    endpoint: Endpoint
    request_id: str
    started_ns: int
    send: Send
    options: Options = NO_OPTIONS
    call: Call | None = None
    include_usage: bool = False
    model: str | None = None
    answer: Answer | None = None
    status: int = 0
