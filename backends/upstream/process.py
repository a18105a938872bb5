"""A server process of the gateway's own: started, watched, started again when it dies, and ended.

It says `{"url": ...}` in its first line of output once it serves (or `{"error": ...}`), and must end when its input
does, which stays open for as long as this process lives. What it writes to its standard error is kept for the message
that says why it died. It is in a session of its own: Ctrl-C is meant for the gateway, which drains first.

When it dies it is started again after a second, then twice as long each time up to a minute; after a second again once
it has lived for a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from backends.clock import Clock
from backends.errors import Unavailable

START_S = 60.0
STOP_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S, FORGIVEN_AFTER_S = 1.0, 60.0, 60.0
LAST_LINES = 20
LAST_CHARACTERS = 500

log = logging.getLogger("turnout.local")


class ServerProcess:
    """One process at a time, for as long as it is wanted."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        serves: Callable[[str], None],
        clock: Clock,
    ) -> None:
        """`name` is whose process it is, for messages; `serves` is told the URL of each that is started."""
        self._name = name
        self._command = command
        self._environment = environment
        self._serves = serves
        self._clock = clock
        self.first_pause_s = FIRST_PAUSE_S
        self._process: Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self._tending: asyncio.Task[None] | None = None
        self._words: deque[str] = deque(maxlen=LAST_LINES)

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def start(self) -> None:
        """Returns once it serves.

        Raises: Unavailable, saying why it does not.
        """
        await self._launch()
        self._tending = asyncio.get_running_loop().create_task(self._tend(), name=f"tend {self._name}")

    async def aclose(self) -> None:
        """End it, and start none again. Idempotent."""
        tending, self._tending = self._tending, None
        if tending is not None:
            tending.cancel()
            await asyncio.gather(tending, return_exceptions=True)
        await self._end()

    async def _launch(self) -> None:
        self._words.clear()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=self._environment, start_new_session=True
            )
        except OSError as error:
            raise Unavailable(f"{self._name}: no process could be started: {error.strerror or error}") from error
        self._process = process
        assert process.stdout is not None
        assert process.stderr is not None
        self._listener = asyncio.get_running_loop().create_task(self._listen(process.stderr))
        said: dict[str, object] = {}
        with contextlib.suppress(TimeoutError, ValueError):
            async with asyncio.timeout(START_S):
                said = _said(await process.stdout.readline())
        url, wrong = said.get("url"), said.get("error")
        if not isinstance(url, str):
            await self._end()
            why = str(wrong) if wrong else f"its process did not begin to answer ({self._how(process)})"
            raise Unavailable(f"{self._name}: {why}")
        self._serves(url)

    async def _tend(self) -> None:
        """Start it again whenever it has ended."""
        pause_s = self.first_pause_s
        while True:
            process, began_ns = self._process, self._clock.now_ns()
            if process is not None:
                await process.wait()
                await self._end()
                if self._clock.now_ns() - began_ns > FORGIVEN_AFTER_S * 1e9:
                    pause_s = self.first_pause_s
                log.error("%s: its process ended (%s); another in %g s", self._name, self._how(process), pause_s)
            await self._clock.sleep_until(self._clock.now_ns() + int(pause_s * 1e9))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            try:
                await self._launch()
                log.warning("%s: serves again (pid %s)", self._name, self.pid)
            except Unavailable as error:
                log.error("%s; tried again in %g s", error, pause_s)

    async def _listen(self, words: asyncio.StreamReader) -> None:
        while piece := await words.read(4096):
            self._words.extend(piece.decode(errors="replace").splitlines())

    async def _end(self) -> None:
        """The end of its input is its order to end; one that does not hear it is killed."""
        process, self._process = self._process, None
        listener, self._listener = self._listener, None
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                async with asyncio.timeout(STOP_S):
                    await process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if listener is not None:
            await listener

    def _how(self, process: Process) -> str:
        code = process.returncode
        how = f"exit {code}" if code is None or code >= 0 else signal.Signals(-code).name
        words = " / ".join(self._words)[-LAST_CHARACTERS:]
        return f"{how}: {words}" if words else how


def _said(line: bytes) -> dict[str, object]:
    said = json.loads(line) if line else {}
    return said if isinstance(said, dict) else {}
