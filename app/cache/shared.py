"""What one generation for several processes looks like to the service, whoever carries it (`app.cache.relaying`)."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from backends.types import Event, Usage


class HolderGone(Exception):
    """Nobody holds the lease any more, and the answer is not whole."""


class GenerationFailed(Exception):
    """The holder's generation failed, and that is everybody's answer."""


class End(NamedTuple):
    """What is known of an answer once it is whole."""

    usage: Usage
    cost_nusd: int | None
    backend: str
    substrate: str


class Publisher(Protocol):
    """Tells the others what the holder of a lease generates."""

    def hear(self, event: Event) -> None:
        """The next event."""
        ...

    def end(self, end: End) -> None:
        """It is whole."""
        ...

    def failed(self, message: str) -> None:
        """It failed."""
        ...

    async def aclose(self) -> None:
        """Nothing more is coming; if that was not the end, somebody else may begin anew."""
        ...


class Follower(Protocol):
    """Reads what the holder of a lease generates."""

    end: End | None

    async def more(self) -> list[Event]:
        """What came since; empty once the answer is whole (`end`).

        Raises: HolderGone; GenerationFailed.
        """
        ...


class Boarded(NamedTuple):
    """Either the lease, or what its holder writes; neither if nobody can tell."""

    publisher: Publisher | None = None
    follower: Follower | None = None


class Relay(Protocol):
    """Leases that processes have in common."""

    async def board(self, name: bytes) -> Boarded:
        """The lease of this name, or its holder's stream."""
        ...
