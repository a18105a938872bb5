"""Where rows are put for others to read: what the loop needs of Redis."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class StoreError(Exception):
    """It cannot be reached, or does not answer in time."""


class Found(NamedTuple):
    """A row as it was read, and how old it was then."""

    value: bytes
    age_s: float


class Grant(NamedTuple):
    """Slots of a cap that are this process's until the lease ends, and whether another process wants for some."""

    slots: int
    wanted: bool


class Store(Protocol):
    """Every operation is one round trip with a hard time limit. All raise StoreError."""

    async def exchange(self, kind: str, process: str, row: bytes, ttl_s: float) -> dict[str, Found]:
        """Put this process's row and get everybody's, its own among them."""
        ...

    async def withdraw(self, process: str) -> None:
        """Take back all of a process that ends."""
        ...

    async def token(self, name: str, process: str, ttl_s: float) -> bool:
        """Take or keep a token that one process holds at a time; True if this one has it now."""
        ...

    async def lease(self, name: str, process: str, cap: int, want: int, used: int, lease_s: float) -> Grant:
        """Hold so many slots of a cap as are wanted and free; never fewer than are used, if they were held."""
        ...

    async def aclose(self) -> None:
        """Close the connection."""
        ...
