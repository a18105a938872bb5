"""The seam between the hot endpoints and what clients speak: bytes in, a `Call`; an answer's events in, bytes out.

Whatever a client speaks, a backend is asked for a chat, a text completion or embeddings: a wire that is neither writes
the `Call`'s body anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from app.call import Call, Options
from app.errors import ApiError
from app.metering.cost import CostLines
from backends.types import Event, Usage

Extra = Mapping[str, Any]
"""Keys that go to the top level of an answer: the receipt, where it was asked for."""


class Arrival(NamedTuple):
    """A request's body as it came, and what else its `Call` is made of."""

    body: bytes
    request_id: str
    started_ns: int
    options: Options


class Opening(NamedTuple):
    """What an answer begins with. `created_s` is wall time; `identifier` is random and goes into the answer's id."""

    identifier: str
    created_s: int
    model: str


class Bill(NamedTuple):
    """What an answer took. `cost` and `energy_j` are None where price or power are unknown."""

    usage: Usage
    cost: CostLines | None
    energy_j: float | None


class Writer(Protocol):
    """An answer under way to the client: as a stream, each method returns what to write now; else `event` returns
    nothing and `end` everything."""

    def begin(self) -> bytes:
        """Before any event."""
        ...

    def event(self, event: Event) -> bytes:
        """The next event of the answer."""
        ...

    def failed(self, error: ApiError) -> bytes:
        """The end of a stream that broke off, which no client may take for a whole one."""
        ...

    def end(self, bill: Bill, extra: Extra | None) -> bytes:
        """After the last event."""
        ...


class Reading(Protocol):
    """A request that was understood: the call it is, and how its answer is written."""

    @property
    def call(self) -> Call: ...

    def stream(self, opening: Opening) -> Writer: ...

    def whole(self, opening: Opening) -> Writer: ...


class Sizing(NamedTuple):
    """A request that asks only how many tokens its prompt has; `shape` is what the answer says beside."""

    call: Call
    shape: Mapping[str, Any]


class Wire(Protocol):
    """What is spoken at one path. `name` is the `endpoint` label of the request metrics; `id_header` is where its
    clients look for the request's id, if not in `x-request-id`."""

    name: str
    id_header: bytes | None

    def read(self, arrival: Arrival) -> Reading | Sizing:
        """Raises: BadRequest."""
        ...

    def error(self, error: ApiError, request_id: str) -> bytes:
        """The body of an error before anything of an answer was sent."""
        ...

    def stream_error(self, error: ApiError, request_id: str) -> bytes:
        """What ends a stream of which the headers are out, where no writer can say it."""
        ...
