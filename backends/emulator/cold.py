"""An engine that is scaled to zero while nobody needs it: cold, its first step begins when it has warmed up.

Warming up takes what was declared, without noise. Nobody is worked for meanwhile, so it counts as idle time; so does
the time it is cold. What it had in its prefix cache is lost.
"""

from __future__ import annotations

from backends.emulator.engine import Engine
from backends.emulator.jobs import Job
from backends.emulator.kv_cache import KvCache
from backends.emulator.pace import StepPhysics
from backends.emulator.traits import Traits
from backends.types import ColdStart


class ColdEngine(Engine):
    """The engine that `cold_start` is declared of. While it warms up it is idle, and yet has an event to come."""

    def __init__(
        self, cold_start: ColdStart, physics: StepPhysics, traits: Traits, seed: int, prefill_noise: float,
        decode_noise: float, start_ns: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(physics, traits, seed, prefill_noise, decode_noise, start_ns)
        self._cold_start = cold_start
        self._warm_ns = start_ns if cold_start.starts == "warm" else None

    @property
    def warming(self) -> bool:
        """Whether it has begun to warm up and is not yet warm."""
        return self._end_ns is not None and self._idle_since_ns is not None

    def wake(self, now_ns: int) -> None:
        """Warm up, if it is cold, though nobody waits. `advance(now_ns)` must have been called."""
        if self._end_ns is None:
            self._plan(now_ns)

    def cancel(self, job: Job, now_ns: int) -> None:
        if not self.warming or job.ended_ns is not None:
            super().cancel(job, now_ns)
            return
        self._waiting.remove(job)  # nobody has been begun with, and warming up goes on
        job.ended_ns = now_ns

    def _plan(self, now_ns: int) -> None:
        left_ns = 0
        if self._idle_since_ns is not None:
            left_ns = self._cold_start.left_ns(self._warm_ns, self._idle_since_ns, now_ns)
        if not left_ns:
            super()._plan(now_ns)
            return
        self._warm_ns = now_ns + left_ns
        self._kv = KvCache(self._kv.room * self._kv.block, self._kv.block)
        self._end_ns = self._segment.plan(now_ns, left_ns, 0.0, 1)

    def _end_segment(self, now_ns: int) -> None:
        if self._idle_since_ns is not None:
            self._plan(now_ns)
        else:
            super()._end_segment(now_ns)
