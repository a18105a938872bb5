"""What a request's dispatch tells its shell to do. The shell answers with events (`machine.Dispatch`).

Commands come in the order they are to be carried out, before anything else is decided: an `Ask` holds a reservation
that only its `Flight` gives back.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from app.errors import ApiError
from app.routing.types import Decision, Reservation

Why = Literal["first", "refused", "saturated", "timeout", "connect", "cut_stream", "error", "slow", "context", "hedge"]
"""What an attempt was made for: a request's first; the failure before it; nothing heard for long; a wider context."""

DropWhy = Literal["lost", "slow", "left"]


class Ask(NamedTuple):
    """Send the request to `decision.chosen`, as attempt `number` (from 1); `reservation` is its place there."""

    number: int
    decision: Decision
    reservation: Reservation
    why: Why = "first"


class Serve(NamedTuple):
    """Attempt `number` is the answer: pass on its events as they come. Nothing follows."""

    number: int


class Drop(NamedTuple):
    """Cancel attempt `number`; what it has used is billed. No event of it is awaited any more.

    `slow` has failed (`backends.errors.BackendTimeout`: nothing was heard in time), `lost` a race, `left` its client.
    """

    number: int
    why: DropWhy = "lost"


class Wake(NamedTuple):
    """Call `wake` at `at_ns` (or sooner); takes the place of a `Wake` before it."""

    at_ns: int


class Hold(NamedTuple):
    """Nothing is under way: the request waits in the gateway's queue (`admission.Admission`) until `at_ns`.

    Call `wake` when its turn comes (`Admission.turns` lists this dispatch), and at `at_ns` at the latest. Takes the
    place of a `Wake` before it.
    """

    at_ns: int


class Refuse(NamedTuple):
    """The request ends without an answer. Nothing follows."""

    error: ApiError


Command = Ask | Serve | Drop | Wake | Hold | Refuse
