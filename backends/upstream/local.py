"""A model in a process of the gateway's own, reached like any other service: by HTTP, on loopback, with a key.

The process is started with the backend and ended with it (`process.py`). Until it answers, requests fail as those to
any service that is away do. It gets as many requests at a time as it has slots; a bounded number waits here, because
llama.cpp's own queue has no end. Where no profile is declared it is measured when it starts; until then no deployment
is told of, so that nobody routes by a figure that nobody has seen.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from backends.clock import Clock
from backends.datasheet import Datasheets
from backends.errors import BackendConfigError, BackendError
from backends.types import BackendInfo, BackendSnapshot, LiveSpec, LocalServer
from backends.upstream import local_server
from backends.upstream.backend import LiveBackend
from backends.upstream.build import deployments, dialect_of
from backends.upstream.measuring import measure, told
from backends.upstream.process import ServerProcess
from backends.upstream.slots import SlotTransport
from backends.upstream.transport import HttpxTransport, Limits, Transport

LOOPBACK = "http://127.0.0.1"
SPARE_CONNECTIONS = 8
"""For pings, beside those of the slots."""

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
    # Of several answers to a request llama.cpp counts the tokens of one: what they cost, nobody could say.
    only = spec.deployments[0]
    spec = replace(spec, deployments=(replace(only, capabilities=only.capabilities - {"n"}),))
    if command is None:
        installed(server)
    # llama.cpp's server closes connections without a word, now and then under a request on its way: each has its own.
    limits = Limits(spec.timeouts.connect_s, spec.timeouts.idle_s, server.slots + SPARE_CONNECTIONS, kept_alive=0)
    # By its file and with -P: what lies in the working directory is not imported.
    program = command or (sys.executable, "-P", str(Path(local_server.__file__)))
    arguments = [*program, *_options(spec, server)]
    return LocalBackend(spec, server, sheets, arguments, lambda: HttpxTransport(spec.name, LOOPBACK, limits), clock)


def installed(server: LocalServer) -> None:
    """Raises: BackendConfigError, saying what to run, where the runtime or the weights are not there."""
    if find_spec("xllamacpp") is None:
        raise BackendConfigError("there is no runtime for a local model: run `make local` (deploy/bootstrap/local.sh)")
    try:
        weights = local_server.shipped_weights() if server.weights is None else Path(server.weights).expanduser()
    except ModuleNotFoundError as error:
        raise BackendConfigError(str(error)) from None
    if not weights.is_file():
        raise BackendConfigError(f"there are no weights at {weights}")


class LocalBackend(LiveBackend):
    """A live backend with a process behind it."""

    def __init__(
        self,
        spec: LiveSpec,
        server: LocalServer,
        sheets: Datasheets,
        command: Sequence[str],
        connect: Callable[[], Transport],
        clock: Clock,
    ) -> None:
        """`connect` makes the connections to the process.

        Raises: BackendConfigError.
        """
        self._spec = replace(spec, url=LOOPBACK, api_key=secrets.token_urlsafe(24))
        self._server = server
        self._connect = connect
        self._slots: SlotTransport | None = None
        self._sheets = sheets
        known = {} if spec.profile is None else deployments(spec, sheets, "local", None)
        dialect, service = dialect_of(self._spec)
        names: Mapping[str, str] = {each.model: each.upstream_model or each.model for each in spec.deployments}
        info = BackendInfo(spec.name, "local", "live", None, None, known)
        super().__init__(info, dialect, service, names, spec.timeouts, self._behind_slots, clock)
        environment = {**os.environ, "TURNOUT_LOCAL_KEY": self._spec.api_key or ""}
        self.process = ServerProcess(spec.name, command, environment, self._serves, clock)

    async def start(self) -> None:
        """Some seconds, if it is to be measured.

        Raises: BackendConfigError where the process does not come to answer.
        """
        try:
            await self.process.start()
            await super().start()
            if self._spec.profile is None:
                await self._measure()
        except BackendError as error:
            raise BackendConfigError(str(error)) from None

    def snapshot(self) -> BackendSnapshot:
        waiting = 0 if self._slots is None else self._slots.waiting
        return BackendSnapshot(running=super().snapshot().running - waiting, waiting=waiting)

    async def aclose(self) -> None:
        try:
            await super().aclose()
        finally:
            await self.process.aclose()

    async def _measure(self) -> None:
        model, slots = self._spec.deployments[0].model, self._server.slots
        profile = await measure(self, model, slots, self.clock)
        log.info("%s is measured: %s", self.info.name, told(profile))
        found = deployments(replace(self._spec, profile=profile), self._sheets, "local", None)
        self.info = replace(self.info, deployments=found)

    def _serves(self, url: str) -> None:
        self.dialect, self.service = dialect_of(replace(self._spec, url=url))

    def _behind_slots(self) -> SlotTransport:
        self._slots = SlotTransport(self._spec.name, self._connect(), self._server.slots, self._server.max_waiting)
        return self._slots


def _options(spec: LiveSpec, server: LocalServer) -> list[str]:
    name = spec.deployments[0].upstream_model or spec.deployments[0].model
    weights = [] if server.weights is None else ["--weights", str(Path(server.weights).expanduser())]
    numbers = {"--threads": server.threads, "--slots": server.slots, "--context": server.context_tokens}
    return [*weights, "--name", name, *(word for option, value in numbers.items() for word in (option, str(value)))]
