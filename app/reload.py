"""Another configuration without a restart: read whole, checked whole, taken over at once, or not at all.

read       in a thread: `load` blocks, and requests go on meanwhile
compare    what cannot change while the gateway runs refuses all of it
build      the next edition; backends that are described as before are taken over as they run
start      those that are new; one that cannot start ends the reload, and nothing has changed
install    from here on requests begin with the new edition (no await between this and the decision to)
retire     the old edition's requests finish on its objects, for `server.drain_timeout_s` at most; then what only it
           used is closed
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from app.config.changes import Changes, compare
from app.config.load import LoadedConfig
from app.config.watch import Watched
from app.edition import Edition
from app.errors import ConfigError, ReloadError, StartupError
from app.metering.metrics import Metrics
from backends.base import Backend
from backends.clock import Clock
from backends.errors import BackendError, TurnoutBackendError

POLL_S = 2.0
"""How often watched files are looked at."""

log = logging.getLogger("turnout.reload")


class Reloader:
    """Holds the running edition and replaces it."""

    def __init__(
        self,
        first: Edition,
        read: Callable[[], LoadedConfig],
        succeed: Callable[[LoadedConfig, Edition], Edition],
        install: Callable[[Edition], None],
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """`read` loads the configuration anew and may block; `succeed` builds an edition to follow another."""
        self.current = first
        self._read = read
        self._succeed = succeed
        self._install = install
        self._metrics = metrics
        self._clock = clock
        self._lock = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._hurry = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._open = False

    def start(self) -> None:
        """The first configuration counts as loaded; begin to watch its files, if it says so."""
        self._open = True
        self._metrics.reloaded(self._clock.wall_ns())
        self._watch()

    async def reload(self, *, dry_run: bool = False) -> dict[str, Any]:
        """Take over what the files say now; returns what changes, as JSON. A dry run only tells.

        Raises: ConfigError with every problem; ReloadError when it is valid and cannot be run. Either way nothing has
        changed then.
        """
        async with self._lock:
            if not self._open:
                raise ReloadError("the gateway is starting or shutting down")
            try:
                loaded = await asyncio.to_thread(self._read)
                changes = compare(self.current.loaded, loaded)
                if changes.refused:
                    raise ConfigError(changes.refused)
                if not dry_run and changes:
                    await self._take_over(loaded, changes)
            except ConfigError:
                self._failed("invalid", dry_run)
                raise
            except (TurnoutBackendError, StartupError, OSError) as error:
                self._failed("failed", dry_run)
                raise ReloadError(f"the new configuration cannot be run: {error}") from error
            if not dry_run:
                self._metrics.reloads.add(("ok",))
                self._metrics.reloaded(self._clock.wall_ns())
            return {**changes.plain(), "dry_run": dry_run, "warnings": list(loaded.warnings)}

    async def reload_and_log(self, why: str) -> None:
        """The same for those who read no answer; never raises for what is wrong with the configuration."""
        try:
            done = await self.reload()
        except ConfigError as error:
            log.error("%s: the configuration is not taken over, the old one stays:", why)
            for problem in error.problems:
                log.error("%s", problem)
            return
        except ReloadError as error:
            log.error("%s: %s; the old one stays", why, error)
            return
        for warning in done["warnings"]:
            log.warning("%s", warning)

    async def aclose(self) -> None:
        """Reload no more, and close at once what is being retired."""
        async with self._lock:
            self._open = False
        if (watcher := self._watcher) is not None:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
        self._hurry.set()
        if self._retiring:
            await asyncio.gather(*self._retiring, return_exceptions=True)

    def _failed(self, result: str, dry_run: bool) -> None:
        if not dry_run:
            self._metrics.reloads.add((result,))
            self._metrics.not_reloaded()

    async def _take_over(self, loaded: LoadedConfig, changes: Changes) -> None:
        old = self.current
        new = self._succeed(loaded, old)
        kept = set(map(id, old.fleet.backends.values()))
        async with AsyncExitStack() as undo:
            for backend in new.fleet.backends.values():
                if id(backend) not in kept:
                    undo.push_async_callback(backend.aclose)
                    await backend.start()
            undo.pop_all()
        new.know_backends()
        old.fleet.supersede(new.fleet)
        self.current = new
        self._install(new)
        log.info("configuration %s follows %s: %s", new.loaded.hash, old.loaded.hash, _summary(changes))
        earlier = tuple(self._retiring)
        task = asyncio.get_running_loop().create_task(self._retire(old, new, earlier))
        self._retiring.add(task)
        task.add_done_callback(self._retired)
        self._watch()

    async def _retire(self, old: Edition, new: Edition, earlier: Sequence[asyncio.Task[None]]) -> None:
        await self._finished(old)
        if earlier:  # who began before this edition may be with a backend that it still had
            await asyncio.wait(earlier)
        kept = set(map(id, new.fleet.backends.values()))
        leaving = [each for each in old.fleet.backends.values() if id(each) not in kept]
        await _close(leaving)
        await old.service.aclose()
        if old.cache is not None and old.cache is not new.cache:
            await old.cache.aclose()

    def _retired(self, task: asyncio.Task[None]) -> None:
        self._retiring.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("an old configuration was not taken down properly", exc_info=error)

    async def _finished(self, edition: Edition) -> None:
        """Its last request has ended, or its time is over."""
        if not edition.hot.in_flight:
            return
        loop = asyncio.get_running_loop()
        idle, hurry = loop.create_task(edition.hot.idle()), loop.create_task(self._hurry.wait())
        patience_s = edition.loaded.config.server.drain_timeout_s
        _, pending = await asyncio.wait({idle, hurry}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        if left := edition.hot.in_flight:
            log.warning(
                "%d requests of configuration %s have not ended; what only they used is closed",
                left,
                edition.loaded.hash,
            )
        for task in pending:
            task.cancel()

    def _watch(self) -> None:
        if self.current.loaded.config.server.watch_config and self._watcher is None:
            self._watcher = asyncio.get_running_loop().create_task(self._look(), name="config watcher")
            self._watcher.add_done_callback(self._watched)

    async def _look(self) -> None:
        """Reload when the files read differently; files that are wrong are said so once."""
        while self.current.loaded.config.server.watch_config:
            files = self.current.loaded.files
            watched = await asyncio.to_thread(Watched, files)
            while files == self.current.loaded.files and self.current.loaded.config.server.watch_config:
                await asyncio.sleep(POLL_S)
                if await asyncio.to_thread(watched.changed):
                    await self.reload_and_log("files have changed")

    def _watched(self, watcher: asyncio.Task[None]) -> None:
        self._watcher = None
        if not watcher.cancelled() and (error := watcher.exception()) is not None:
            log.error("files are not watched any more", exc_info=error)


async def _close(leaving: Sequence[Backend]) -> None:
    """Last started first; one that cannot close properly does not keep the others open."""
    for backend in reversed(leaving):
        try:
            await backend.aclose()
        except BackendError:
            log.exception("backend '%s' did not close properly", backend.info.name)


def _summary(changes: Changes) -> str:
    parts = [
        f"{what} {section}: {', '.join(names)}"
        for section, differences in (("backends", changes.backends), *changes.named.items())
        for what, names in differences.plain().items()
        if names
    ]
    parts += [f"{section}: {', '.join(keys)}" for section, keys in changes.keys.items() if keys]
    if changes.datasheets:
        parts.append(f"datasheets: {', '.join(changes.datasheets)}")
    return "; ".join(parts)
