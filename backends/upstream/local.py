"""A model in a process of the gateway's own, reached like any other service: by HTTP, on loopback, with a key.

The process is started with the backend and ended with it. If it ends by itself it is started again, after a second at
first, then twice as long each time up to a minute; until it answers, requests fail as those to any service that is away
do. Its slots are all the requests it is given at a time: the gateway's queue holds the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from backends.clock import Clock
from backends.datasheet import Datasheets
from backends.errors import BackendConfigError, Unavailable
from backends.types import BackendInfo, LiveSpec, LocalServer
from backends.upstream.backend import LiveBackend
from backends.upstream.build import deployments, dialect_of
from backends.upstream.transport import HttpxTransport, Limits, Transport

START_S = 60.0
STOP_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
LOOPBACK = "http://127.0.0.1"

log = logging.getLogger("turnout.local")


def local(spec: LiveSpec, sheets: Datasheets, clock: Clock, command: Sequence[str] | None = None) -> LocalBackend:
    """`command` stands in for the server.

    Raises: BackendConfigError.
    """
    server = spec.server
    if server is None:
        raise BackendConfigError(f"{spec.name}: a local backend needs `server`")
    if len(spec.deployments) != 1:
        raise BackendConfigError(f"{spec.name}: one process serves one model: a backend for each")
    # llama.cpp's server closes connections without a word, now and then under a request on its way: each has its own.
    limits = Limits(spec.timeouts.connect_s, spec.timeouts.idle_s, server.slots, kept_alive=0)
    deployed = deployments(spec, sheets, "local", None)
    info = BackendInfo(spec.name, "local", "live", None, None, deployed)
    arguments = [*(command or (sys.executable, "-m", "backends.upstream.local_server")), *_options(spec, server)]
    return LocalBackend(info, spec, arguments, lambda: HttpxTransport(spec.name, LOOPBACK, limits), clock)


class LocalBackend(LiveBackend):
    """A live backend with a process behind it."""

    def __init__(
        self,
        info: BackendInfo,
        spec: LiveSpec,
        command: Sequence[str],
        new_transport: Callable[[], Transport],
        clock: Clock,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        self._spec = replace(spec, url=LOOPBACK, api_key=secrets.token_urlsafe(24))
        dialect, service = dialect_of(self._spec)
        names: Mapping[str, str] = {each.model: each.upstream_model or each.model for each in spec.deployments}
        super().__init__(info, dialect, service, names, spec.timeouts, new_transport, clock)
        self._command = command
        self._first_pause_s = first_pause_s
        self._process: asyncio.subprocess.Process | None = None
        self._tending: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that answers now."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def start(self) -> None:
        """Raises: BackendConfigError where the process does not come to answer."""
        try:
            await self._launch()
        except Unavailable as error:
            raise BackendConfigError(str(error)) from None
        await super().start()
        self._tending = asyncio.create_task(self._tend(), name=f"tend {self.info.name}")

    async def aclose(self) -> None:
        tending, self._tending = self._tending, None
        if tending is not None:
            tending.cancel()
            await asyncio.gather(tending, return_exceptions=True)
        await super().aclose()
        await self._stop()

    async def _launch(self) -> None:
        """Raises: Unavailable."""
        environment = {**os.environ, "TURNOUT_LOCAL_KEY": self._spec.api_key or ""}
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
        )
        self._process = process
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_S):
                said = _said(await process.stdout.readline())
        except (TimeoutError, ValueError):
            said = {}
        url = said.get("url")
        if not isinstance(url, str):
            await self._stop()
            why = said.get("error") or f"its process did not begin to answer (exit {process.returncode})"
            raise Unavailable(f"{self.info.name}: {why}")
        self.dialect, self.service = dialect_of(replace(self._spec, url=url))

    async def _tend(self) -> None:
        """Start the process again whenever it has ended."""
        pause_s = self._first_pause_s
        while self._process is not None:
            code = await self._process.wait()
            log.error("%s: its process ended (exit %s); another is started in %g s", self.info.name, code, pause_s)
            await asyncio.sleep(pause_s)
            try:
                await self._launch()
                pause_s = self._first_pause_s
            except Unavailable as error:
                log.error("%s", error)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _stop(self) -> None:
        """The end of its input is its order to end; one that does not hear it is killed."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _options(spec: LiveSpec, server: LocalServer) -> list[str]:
    name = spec.deployments[0].upstream_model or spec.deployments[0].model
    weights = [] if server.weights is None else ["--weights", str(Path(server.weights).expanduser())]
    numbers = {"--threads": server.threads, "--slots": server.slots, "--context": server.context_tokens}
    return [*weights, "--name", name, *(word for option, value in numbers.items() for word in (option, str(value)))]


def _said(line: bytes) -> dict[str, object]:
    said = json.loads(line) if line else {}
    return said if isinstance(said, dict) else {}
