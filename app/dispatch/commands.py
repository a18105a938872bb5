"""What a request's dispatch tells its shell to do. The shell answers with events (`machine.Dispatch`)."""

from __future__ import annotations

from typing import NamedTuple

from app.errors import ApiError
from app.routing.types import Decision, Reservation


class Ask(NamedTuple):
    """Send the request to `decision.chosen`, as attempt `number` (from 1); `reservation` is its place there."""

    number: int
    decision: Decision
    reservation: Reservation


class Serve(NamedTuple):
    """Attempt `number` is the answer: pass on its events as they come. Nothing follows."""

    number: int


class Drop(NamedTuple):
    """Cancel attempt `number`; what it has used is billed. No event of it is awaited any more."""

    number: int


class Wake(NamedTuple):
    """Call `wake` at `at_ns` (or sooner); takes the place of a `Wake` before it."""

    at_ns: int


class Refuse(NamedTuple):
    """The request ends without an answer. Nothing follows."""

    error: ApiError


Command = Ask | Serve | Drop | Wake | Refuse
