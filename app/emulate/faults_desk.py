"""The fault plan in force, and the request number that decides whom it hits."""

from __future__ import annotations

from app.emulate.faults_file import FaultsFile
from backends.clock import Clock
from backends.emulator.faults import NO_FAULTS, Fault

NONE = FaultsFile()


class FaultsDesk:
    """Set, cleared and asked once per request. Setting a plan starts its time and its count of requests anew."""

    def __init__(self, clock: Clock, file: FaultsFile = NONE) -> None:
        self._clock = clock
        self._plan = NO_FAULTS
        self.set(file)

    def set(self, file: FaultsFile) -> None:
        """Put a plan in force; an empty one clears."""
        self.file = file
        self._plan = file.plan()
        self._since_ns = self._clock.now_ns()
        self._requests = 0

    def pick(self) -> Fault | None:
        """What goes wrong with the request that arrives now."""
        self._requests += 1
        return self._plan.pick(self._requests, (self._clock.now_ns() - self._since_ns) / 1e9)
