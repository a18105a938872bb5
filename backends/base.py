"""What every backend is, emulated or live.

The contract suite (`tests/contract/test_backend.py`) is the definition; in words:

* `generate` neither blocks nor raises; failures surface from the first `__anext__`.
* Chunks of one choice arrive in order; each choice ends with exactly one `ChoiceEnd`; nothing follows it.
* When `request.stream` is false everything after the first chunk of a choice may come as one chunk.
* `usage()` and `engine_share()` may be read at any time, count what was done so far, and are final after
  exhaustion or `aclose()`: a cancelled request is still billed.
* `aclose()` on a generation cancels it and frees its slot and memory before it returns; it is idempotent.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, Self

from backends.types import BackendInfo, BackendSnapshot, EngineShare, Event, GenerationRequest, Usage


class ServiceTimes(NamedTuple):
    """Where a real service says its time went, in seconds; None is what it did not say."""

    queue_s: float | None = None
    prompt_s: float | None = None
    completion_s: float | None = None
    total_s: float | None = None


class Generation(Protocol):
    """One request being answered: an async iterator of events that can be cancelled."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> Event:
        """The next event.

        Raises: BackendError; StopAsyncIteration when every choice has ended.
        """
        ...

    def usage(self) -> Usage:
        """Tokens processed so far, by disjoint kind."""
        ...

    def engine_share(self) -> EngineShare | None:
        """Busy engine time attributed so far; None where the backend does not measure it."""
        ...

    def service_times(self) -> ServiceTimes | None:
        """What the service told so far of its own time; None where it tells nothing."""
        ...

    async def aclose(self) -> None:
        """Cancel what is left and free its resources. Idempotent."""
        ...


class Backend(Protocol):
    """A configured, routable server of one or more models."""

    @property
    def info(self) -> BackendInfo: ...

    async def start(self) -> None:
        """Acquire what `generate` needs. Called once, inside the event loop that will serve."""
        ...

    def generate(self, request: GenerationRequest) -> Generation:
        """Begin answering; neither blocks nor raises."""
        ...

    def snapshot(self) -> BackendSnapshot:
        """Load and time counters as of now."""
        ...

    async def ping(self) -> None:
        """Prove that the backend can answer.

        Raises: Unavailable.
        """
        ...

    def warm(self) -> None:
        """Have it warm up, if it is one that can be cold; neither blocks nor raises, whatever comes of it."""
        ...

    async def aclose(self) -> None:
        """Cancel everything and release resources. Idempotent."""
        ...
