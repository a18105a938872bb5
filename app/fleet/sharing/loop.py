"""Tells other processes what this one does, and takes their word in: a loop of its own that no request waits for.

Every interval the own row is put and everybody's are read, in one round trip. Redis gone or slow: two rounds in a row
without an answer, and it is asked once a second; the others' figures stand until they are older than `row_ttl_s`, then
this process goes by its own count. Back again: every row is put whole anyway.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from app.config.models import RedisSharing, Sharing
from app.fleet.fleet import Fleet
from app.fleet.sharing import rows
from app.fleet.sharing.rows import Row
from app.fleet.sharing.store import Store, StoreError
from app.metering.types import SharingStatus
from app.routing.state import NOBODY
from backends.clock import Clock

PAUSE_S = 1.0
PATIENCE = 2
"""Rounds without an answer, in a row, before it is asked less often."""

OPERATIONS = ("exchange", "learned", "token", "lease")

log = logging.getLogger("turnout.sharing")


class Sharer:
    """`process` names this process and no other, not even its successor; `failed(operation)` counts."""

    def __init__(
        self,
        fleet: Callable[[], Fleet],
        clock: Clock,
        process: str,
        open_store: Callable[[RedisSharing], Store],
        failed: Callable[[str], None],
    ) -> None:
        self._fleet = fleet
        self._clock = clock
        self._process = process
        self._open_store = open_store
        self._failed = failed
        self._config: Sharing | None = None
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._faults = 0
        self._read_ns: int | None = None
        self._up = False
        self._ages_s: dict[str, float] = {}
        self._told: set[str] = set()

    def follow(self, config: Sharing) -> None:
        """Share as configured from now on; the same configuration changes nothing."""
        if config == self._config:
            return
        self._config = config
        self._end()
        self._alone()
        if isinstance(config, RedisSharing):
            store = self._open_store(config)
            task = asyncio.get_running_loop().create_task(self._run(config, store), name="sharing")
            task.add_done_callback(self._ended)
            self._task = task

    def status(self) -> SharingStatus | None:
        """How it goes; None where nothing is shared."""
        if not isinstance(self._config, RedisSharing):
            return None
        since_s = 0.0 if self._read_ns is None else (self._clock.now_ns() - self._read_ns) / 1e9
        ages_s = self._ages_s.values()
        return SharingStatus(self._up, 1 + len(ages_s), max(ages_s) + since_s if ages_s else 0.0)

    async def aclose(self) -> None:
        """Stop, and take the own row back."""
        self._end()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _end(self) -> None:
        if (task := self._task) is not None:
            self._task = None
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _run(self, config: RedisSharing, store: Store) -> None:
        try:
            while True:
                began_ns = self._clock.now_ns()
                await self._round(config, store)
                pause_s = config.interval_s if self._faults < PATIENCE else max(PAUSE_S, config.interval_s)
                await self._clock.sleep_until(began_ns + int(pause_s * 1e9))
        finally:
            await self._leave(store)

    async def _leave(self, store: Store) -> None:
        """Others need not wait for the row to run out."""
        try:
            if self._up:
                await store.withdraw(self._process)
        except StoreError as error:
            log.info("could not take the own row back (%s): it runs out by itself", error)
        finally:
            await store.aclose()

    async def _round(self, config: RedisSharing, store: Store) -> None:
        """Put and read once."""
        fleet, now_ns = self._fleet(), self._clock.now_ns()
        row = rows.own_row(fleet.state, fleet.backends, {}, now_ns)
        try:
            found = await store.exchange("load", self._process, rows.encode(row), config.row_ttl_s)
        except StoreError as error:
            self._gone("exchange", error)
            if self._read_ns is None or self._clock.now_ns() - self._read_ns > config.row_ttl_s * 1e9:
                self._alone()
            return
        self._back()
        decoded = {name: rows.decode(each.value) for name, each in found.items()}
        told = {name: each for name, each in decoded.items() if each is not None}
        self._read_ns = self._clock.now_ns()
        self._ages_s = {name: found[name].age_s for name in told if name != self._process}
        self._take(rows.merged(told, self._process))

    def _take(self, others: Row) -> None:
        """The others' sum replaces what they told before."""
        fleet = self._fleet()
        known = {name: each for name, each in others.loads.items() if name in fleet.backends}
        for name in self._told - known.keys():
            fleet.state.load(name).others = NOBODY
        for name, each in known.items():
            fleet.state.load(name).others = each.others()
        self._told = set(known)

    def _alone(self) -> None:
        """Nobody has told anything of late."""
        self._ages_s = {}
        self._take(Row({}, {}))

    def _gone(self, operation: str, error: StoreError) -> None:
        self._failed(operation)
        if self._up or not self._faults:
            log.warning("shared state unreachable (%s): going by what this process knows", error)
        self._up = False
        self._faults += 1

    def _ended(self, task: asyncio.Task[None]) -> None:
        """It only ends by being cancelled; one that died of a bug shares no more, and no request knows."""
        if not task.cancelled() and task.exception() is not None:
            log.error("sharing broke; this process goes by its own count", exc_info=task.exception())
            self._up = False
            self._alone()

    def _back(self) -> None:
        if self._faults:
            log.warning("shared state is back")
        self._up = True
        self._faults = 0
