"""One request on its way through a replay, and its attempts."""

from __future__ import annotations

from app.dispatch.flight import Flight
from app.dispatch.machine import Dispatch
from app.replay.formats import Arrival
from app.replay.stage import Server
from app.routing.types import RouteRequest
from backends.emulator.jobs import Job
from backends.errors import BackendError
from backends.types import EngineShare, Usage

NOTHING_USED = Usage()
NO_SHARE = EngineShare()


class Try:
    """An attempt: its flight, and the engine's job once the backend has taken it."""

    __slots__ = ("_used", "flight", "job", "ride", "server")

    def __init__(self, ride: Ride, flight: Flight, server: Server) -> None:
        self.ride = ride
        self.flight = flight
        self.server = server
        self.job: Job | None = None
        self._used: Usage | None = None

    def usage(self) -> Usage:
        """Tokens so far, as `EmulatedGeneration.usage` counts them."""
        job = self.job
        if job is None:
            return NOTHING_USED
        if self._used is not None:
            return self._used
        produced = self.server.engine.produced
        made = sum([produced(lane) for lane in job.lanes_made])
        used = Usage(job.prefilled - job.cached_tokens, job.cached_tokens, made)
        if job.ended_ns is not None:
            self._used = used
        return used

    def share(self) -> EngineShare:
        """Busy engine time so far."""
        return NO_SHARE if self.job is None else EngineShare(*self.server.engine.share_ns(self.job))


class Ride:
    """A request from its arrival to its end.

    `wake_ns` is the timer that counts, `served` the number of the attempt whose answer it gets (were it the attempt
    itself, each request would leave a cycle); money adds up over attempts.
    """

    __slots__ = (
        "arrival", "arrived_ns", "attempts", "done", "effective_nusd", "first_token_ns", "forecast_nusd", "machine",
        "number", "open", "route", "served", "spend_nusd", "wake_ns",
    )  # fmt: skip

    def __init__(self, number: int, arrival: Arrival, arrived_ns: int, route: RouteRequest, machine: Dispatch) -> None:
        self.number = number
        self.arrival = arrival
        self.arrived_ns = arrived_ns
        self.route = route
        self.machine = machine
        self.open: dict[int, Try] = {}
        self.attempts = 0
        self.served: int | None = None
        self.first_token_ns: int | None = None
        self.wake_ns: int | None = None
        self.done = False
        self.effective_nusd: int | None = 0
        self.forecast_nusd = 0.0
        self.spend_nusd = 0


class Failure:
    """An attempt that failed before its first event, to be reported when every command has been carried out."""

    __slots__ = ("error", "number")

    def __init__(self, number: int, error: BackendError) -> None:
        self.number = number
        self.error = error
