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
from app.fleet.sharing import learned, leases, rows
from app.fleet.sharing.rows import Row
from app.fleet.sharing.store import Store, StoreError
from app.metering.types import SharingStatus
from app.routing.state import NOBODY
from backends.clock import Clock

PAUSE_S = 1.0
PROBE_S = 1.0
"""How long a probe token holds without being renewed."""

LEARNED_TTL_S = 600.0
"""How long what a process has learned outlives it."""

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
        self._lease_ends_ns: dict[str, int] = {}
        self._probed_ns: dict[str, int] = {}
        self._known: frozenset[str] = frozenset()
        self._wanted_elsewhere: set[str] = set()
        self._grow_ns = 0
        self._learned_due_ns = 0
        self._wanted = asyncio.Event()

    def follow(self, config: Sharing) -> None:
        """Share as configured from now on; the same configuration changes nothing."""
        if config == self._config:
            return
        self._config = config
        self._end()
        self._fleet().caps.wanted = self._wanted.set
        self._lease_ends_ns = {}
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
        me = asyncio.current_task()
        assert me is not None
        try:
            while not me.cancelling():  # a cancellation may be lost on the way: redis-py waits by `wait_for` on 3.11
                began_ns = self._clock.now_ns()
                await self._round(config, store)
                await self._leases(config, store)
                await self._learned(config, store)
                pause_s = config.interval_s if self._faults < PATIENCE else max(PAUSE_S, config.interval_s)
                await self._pause(began_ns, int(pause_s * 1e9))
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

    async def _pause(self, began_ns: int, pause_ns: int) -> None:
        """Until the next round; a quarter of that, if somebody finds no slot of a cap."""
        until_ns = began_ns + pause_ns
        if self._faults:
            await self._clock.sleep_until(until_ns)
            return
        await self._clock.sleep_until(began_ns + pause_ns // 4)
        waits = [asyncio.ensure_future(each) for each in (self._clock.sleep_until(until_ns), self._wanted.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._wanted.clear()
            for each in waits:
                each.cancel()

    async def _leases(self, config: RedisSharing, store: Store) -> None:
        """Renew what is used of each cap and a little more; what runs out is replaced by this process's part."""
        fleet, lease_ns = self._fleet(), int(config.row_ttl_s * 1e9)
        caps = fleet.caps
        for name, cap in caps.caps.items() if caps.shared else ():
            began_ns = self._clock.now_ns()
            if self._up:
                slots = self._slots(name, cap, began_ns)
                caps.allow(name, min(slots, caps.allowed[name]), began_ns)  # before others may have the rest
                used = caps.used.get(name, 0)
                try:
                    grant = await store.lease(name, self._process, cap, max(slots, used), used, config.row_ttl_s)
                except StoreError as error:
                    self._gone("lease", error)
                else:
                    self._lease_ends_ns[name] = began_ns + lease_ns
                    (self._wanted_elsewhere.add if grant.wanted else self._wanted_elsewhere.discard)(name)
                    fleet.allow(name, min(slots, grant.slots), self._clock.now_ns())
                    continue
            if self._clock.now_ns() >= self._lease_ends_ns.get(name, 0):
                fleet.allow(name, leases.part(cap, self._process, self._known), self._clock.now_ns())

    def _slots(self, name: str, cap: int, now_ns: int) -> int:
        """How many to ask for; after an outage nothing more for a while: others' slots may not be known again yet."""
        caps = self._fleet().caps
        missed = name in caps.missed
        caps.missed.discard(name)
        elsewhere = name in self._wanted_elsewhere
        used = caps.used.get(name, 0)
        slots = leases.want(cap, self._process, self._known, used, missed=missed, wanted_elsewhere=elsewhere)
        return min(slots, max(used, caps.allowed[name])) if now_ns < self._grow_ns else slots

    async def _learned(self, config: RedisSharing, store: Store) -> None:
        """Tell what was observed here, and begin from what was observed elsewhere."""
        now_ns = self._clock.now_ns()
        if not self._up or now_ns < self._learned_due_ns:
            return
        self._learned_due_ns = now_ns + int(config.learned_interval_s * 1e9)
        fleet = self._fleet()
        row = learned.encode(learned.own(fleet.state, fleet.snapshot, now_ns))
        try:
            found = await store.exchange("learned", self._process, row, LEARNED_TTL_S)
        except StoreError as error:
            self._gone("learned", error)
            return
        told = {
            name: learned.faded(each, found[name].age_s)
            for name, each in ((name, learned.decode(one.value)) for name, one in found.items())
            if each is not None
        }
        fleet = self._fleet()
        learned.take(fleet.state, fleet.snapshot, learned.merged(told, self._process))

    async def _probes(self, store: Store, by_ns: int) -> None:
        """Of all processes one at a time probes a backend; the others leave it alone meanwhile."""
        health = self._fleet().health
        for name in health.probing(by_ns):
            try:
                mine = await store.token(f"probe:{name}", self._process, PROBE_S)
            except StoreError as error:
                self._gone("token", error)
                return
            now_ns = self._clock.now_ns()
            self._probed_ns[name] = 0 if mine else now_ns + int(PROBE_S * 1e9)
            if not mine:
                health.elsewhere(name, self._probed_ns[name], now_ns)

    async def _round(self, config: RedisSharing, store: Store) -> None:
        """Put and read once."""
        fleet, now_ns = self._fleet(), self._clock.now_ns()
        interval_ns, wall_ns = int(config.interval_s * 1e9), self._clock.wall_ns()
        told = fleet.health.told(now_ns, 3 * interval_ns)
        until_ms = {name: max(0, wall_ns + until_ns - now_ns) // 1_000_000 for name, until_ns in told.items()}
        row = rows.own_row(fleet.state, fleet.backends, until_ms, now_ns)
        try:
            found = await store.exchange("load", self._process, rows.encode(row), config.row_ttl_s)
        except StoreError as error:
            self._gone("exchange", error)
            if self._read_ns is None or self._clock.now_ns() - self._read_ns > config.row_ttl_s * 1e9:
                self._alone()
            return
        self._back(int(config.row_ttl_s * 1e9))
        decoded = {name: rows.decode(each.value) for name, each in found.items()}
        rows_told = {name: each for name, each in decoded.items() if each is not None}
        self._read_ns = self._clock.now_ns()
        self._ages_s = {name: found[name].age_s for name in rows_told if name != self._process}
        self._known = frozenset(self._ages_s)
        self._take(rows.merged(rows_told, self._process))
        await self._probes(store, now_ns + 2 * interval_ns)

    def _take(self, others: Row) -> None:
        """The others' sum replaces what they told before."""
        fleet = self._fleet()
        known = {name: each for name, each in others.loads.items() if name in fleet.backends}
        for name in self._told - known.keys():
            fleet.state.load(name).others = NOBODY
        for name, each in known.items():
            fleet.state.load(name).others = each.others()
        self._told = set(known)
        now_ns, wall_ns = self._clock.now_ns(), self._clock.wall_ns()
        for name in fleet.backends:
            until_ms = others.open_until_ms.get(name)
            until_ns = 0 if until_ms is None else now_ns + until_ms * 1_000_000 - wall_ns
            fleet.health.elsewhere(name, max(until_ns, self._probed_ns.get(name, 0)), now_ns)

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

    def _back(self, lease_ns: int) -> None:
        if self._faults:
            self._grow_ns = self._clock.now_ns() + lease_ns
            log.warning("shared state is back")
        self._up = True
        self._faults = 0
