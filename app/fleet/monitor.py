"""Looks after live backends: pings them, and reads the load that their engines report. The asyncio shell.

Every interval, give or take a fifth (seeded, so that backends are not all asked at once), a backend is pinged and its
page of metrics is read. What it said goes into `RoutingState.scraped` with the time it was asked; what is older than
three intervals is stale: no longer believed, and not taken for zero either. Traffic is nobody's affair here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from app.fleet.engine_gauges import UnreadableMetrics, parse
from app.routing.state import RoutingState, Scraped
from backends.base import Backend
from backends.clock import Clock
from backends.errors import BackendError, BackendTimeout

STALE_INTERVALS = 3
JITTER = 0.2

log = logging.getLogger("turnout.monitor")


class Page(Protocol):
    """Where an engine's metrics are read (`backends.upstream.page`)."""

    async def read(self) -> str:
        """Raises: BackendError."""
        ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Target:
    """What is looked after, how often and how patiently; without a `metrics_url` it is only pinged."""

    backend: Backend
    metrics_url: str | None
    interval_s: float
    timeout_s: float

    @property
    def name(self) -> str:
        return self.backend.info.name


@dataclass(slots=True)
class Signal:
    """One thing asked of a backend: when it was last told (first of all: since when it is asked), and what is wrong."""

    told_ns: int
    ever: bool = False
    error: str | None = None

    def plain(self, now_ns: int, interval_s: float) -> dict[str, Any]:
        """As JSON; `ok` None = not yet known."""
        age_s = (now_ns - self.told_ns) / 1e9
        return {
            "ok": False if self.error is not None else True if self.ever else None,
            "age_s": age_s,
            "stale": not self.ever or age_s > STALE_INTERVALS * interval_s,
            "error": self.error,
        }


class Watch:
    """A target under watch."""

    def __init__(self, target: Target, page: Page | None, now_ns: int) -> None:
        self.target = target
        self.page = page
        self.signals = {"ping": Signal(now_ns)}
        if page is not None:
            self.signals["scrape"] = Signal(now_ns)
        self.task: asyncio.Task[None] | None = None


class Monitor:
    """One task for each target. `failed(backend, signal)` is told of everything that was not answered."""

    def __init__(
        self,
        state: RoutingState,
        clock: Clock,
        seed: int,
        open_page: Callable[[Target], Page],
        failed: Callable[[str, str], None],
    ) -> None:
        self._state = state
        self._clock = clock
        self._seed = seed
        self._open_page = open_page
        self._failed = failed
        self._watches: dict[str, Watch] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def watch(self, targets: Iterable[Target]) -> None:
        """Look after these from now on, and no others; one that is the same goes on as it was."""
        wanted = {target.name: target for target in targets}
        for name, watch in list(self._watches.items()):
            if wanted.get(name) != watch.target:
                self._end(name)
        for name, target in wanted.items():
            if name not in self._watches:
                self._begin(name, target)

    def __iter__(self) -> Iterator[Watch]:
        return iter(list(self._watches.values()))

    def plain(self, name: str) -> dict[str, Any] | None:
        """What is known of a backend, as JSON; None if it is not looked after."""
        watch = self._watches.get(name)
        if watch is None:
            return None
        now_ns, interval_s = self._clock.now_ns(), watch.target.interval_s
        told = self._state.scraped.get(name)
        load = None if told is None else told._asdict()
        if load is not None:
            load = {key: load[key] for key in ("running", "waiting", "kv_used_ratio")}
        return {
            "interval_s": interval_s,
            **{name: signal.plain(now_ns, interval_s) for name, signal in watch.signals.items()},
            "reported": load,
        }

    def ages_s(self, watch: Watch) -> dict[str, float]:
        """How old what is known is, by signal."""
        now_ns = self._clock.now_ns()
        return {name: (now_ns - signal.told_ns) / 1e9 for name, signal in watch.signals.items()}

    async def aclose(self) -> None:
        """Stop."""
        for name in list(self._watches):
            self._end(name)
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _begin(self, name: str, target: Target) -> None:
        page = None if target.metrics_url is None else self._open_page(target)
        watch = self._watches[name] = Watch(target, page, self._clock.now_ns())
        watch.task = asyncio.get_running_loop().create_task(self._run(watch), name=f"monitor {name}")
        watch.task.add_done_callback(_ended)

    def _end(self, name: str) -> None:
        task = self._watches.pop(name).task
        self._state.scraped.pop(name, None)
        if task is not None:
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _run(self, watch: Watch) -> None:
        target, rng = watch.target, Random(f"{self._seed}:{watch.target.name}")
        try:
            while True:
                asked_ns = self._clock.now_ns()
                await self._ping(watch, asked_ns)
                if watch.page is not None:
                    await self._scrape(watch, watch.page, self._clock.now_ns())
                pause_s = target.interval_s * rng.uniform(1 - JITTER, 1 + JITTER)
                await self._clock.sleep_until(asked_ns + round(pause_s * 1e9))
        finally:
            if watch.page is not None:
                await watch.page.aclose()

    async def _ping(self, watch: Watch, asked_ns: int) -> None:
        try:
            async with asyncio.timeout(watch.target.timeout_s):
                await watch.target.backend.ping()
        except BackendError as error:
            self._not_told(watch, "ping", error)
        except TimeoutError:
            late = f"{watch.target.name} did not answer a ping within {watch.target.timeout_s:g} s"
            self._not_told(watch, "ping", BackendTimeout(late))
        else:
            self._told(watch, "ping", asked_ns)

    async def _scrape(self, watch: Watch, page: Page, asked_ns: int) -> None:
        try:
            load = parse(await page.read())
        except (BackendError, UnreadableMetrics) as error:
            self._not_told(watch, "scrape", error)
            return
        fresh_ns = round(STALE_INTERVALS * watch.target.interval_s * 1e9)
        self._state.scraped[watch.target.name] = Scraped(*load, asked_ns, asked_ns + fresh_ns)
        self._told(watch, "scrape", asked_ns)

    def _told(self, watch: Watch, name: str, asked_ns: int) -> None:
        signal = watch.signals[name]
        if signal.error is not None:
            log.warning("backend '%s' answers again (%s)", watch.target.name, name)
        signal.told_ns, signal.ever, signal.error = asked_ns, True, None

    def _not_told(self, watch: Watch, name: str, error: Exception) -> None:
        """Said when it begins, counted every time."""
        signal = watch.signals[name]
        if signal.error is None:
            log.warning("backend '%s' does not answer (%s): %s", watch.target.name, name, error)
        signal.error = str(error)
        self._failed(watch.target.name, name)


def _ended(task: asyncio.Task[None]) -> None:
    """A task only ends by being cancelled; one that died of a bug leaves what is known to grow stale."""
    if not task.cancelled():
        log.error("%s broke; it looks no more", task.get_name(), exc_info=task.exception())
