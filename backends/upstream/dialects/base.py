"""The seam between a live backend and what its service speaks. Pure: bytes out, bytes in; time is passed in.

A dialect is a module of this package that has `DIALECT`, a class that is made from a `Service`; it goes by the module's
name. A substrate's file names those that its silicon is reached by (`DIALECTS`, the first is the default).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Protocol

from backends.base import ServiceTimes
from backends.errors import BackendError
from backends.types import Capability, Endpoint, Event, GenerationRequest, Usage

STREAM_TYPE, WHOLE_TYPE = "text/event-stream", "application/json"


class Aws(NamedTuple):
    """Where and as whom Amazon's services are asked; what is None is found as AWS tools do."""

    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None


class Service(NamedTuple):
    """What a dialect knows of the service it speaks to. `url` is as configured, without a slash at its end."""

    name: str
    url: str
    api_key: str | None = None
    api_version: str | None = None
    aws: Aws | None = None


class Outgoing(NamedTuple):
    """A request on its way out."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""


class Frames(Protocol):
    """What a stream is cut into."""

    def feed(self, piece: bytes) -> list[bytes]:
        """The frames that `piece` completes.

        Raises: EventTooLong; BadFrame.
        """
        ...


class Answers(Protocol):
    """The events of one answer, and what it took.

    `sent` while the service may be at work on it, `begun` once something of it has been read, `done` once it has said
    that this was all; `times` is what it told of its own.
    """

    sent: bool
    begun: bool
    done: bool
    times: ServiceTimes | None

    def usage(self) -> Usage: ...

    def chunk(self, data: bytes) -> list[Event]:
        """Raises: StreamCut, or before anything was read Unavailable, for what is no frame of an answer."""
        ...

    def whole(self, data: bytes) -> list[Event]:
        """Raises: as `chunk`."""
        ...

    def end(self) -> None:
        """The stream is over. Raises: as `chunk`, if it should not be."""
        ...


class Dialect(Protocol):
    """How one service is spoken to."""

    endpoints: ClassVar[frozenset[Endpoint]]
    stream_type: ClassVar[str]
    """What a stream's content type must be; a whole answer's is JSON."""

    versioned: ClassVar[bool]
    """Whether `api_version` means anything."""

    lacks: ClassVar[frozenset[Capability]]
    """What its words cannot ask for, whatever is declared of the model: such requests are to go elsewhere."""

    lists_models: ClassVar[bool]
    """Whether a ping is answered with `{"data": [{"id": ...}]}` of what may be asked for."""

    def __init__(self, service: Service) -> None: ...

    def outgoing(self, request: GenerationRequest, upstream_model: str, wall_s: float) -> Outgoing:
        """Raises: Unsupported for what the service has no words for."""
        ...

    def ping(self, wall_s: float) -> Outgoing:
        """What costs nothing to ask."""
        ...

    def alive(self, status: int) -> bool:
        """Whether that is how a service answers a ping that may be used."""
        ...

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, wall_s: float) -> BackendError:
        """What an answer other than 200 means."""
        ...

    def frames(self) -> Frames:
        """For one stream."""
        ...

    def answers(self, request: GenerationRequest, upstream_model: str) -> Answers:
        """For one answer."""
        ...


def rooted(url: str, root: str) -> str:
    """A service's URL with the usual path where it has none."""
    _, _, rest = url.partition("://")
    return url if "/" in rest else url + root
