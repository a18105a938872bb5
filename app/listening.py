"""What every server of ours is run with: uvicorn on uvloop, our protocol, a socket of its own, graceful drain.

Used by the gateway (`app.server`) and by the stand-alone emulated server (`app.emulate`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator

import uvicorn

from app.protocol import GatewayProtocol

SEND_BUFFER_BYTES = 64 * 1024

log = logging.getLogger("turnout.server")


def calm_collector() -> None:
    """Let the cyclic collector run less often: a request leaves a hundred tuples behind in its receipt and no cycles.

    What exists by now lives as long as the process, so it is not looked at again. Measured: a tenth of the CPU of a
    request (tests/benchmark/gateway.py).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


class Server(uvicorn.Server):
    """uvicorn, without its own signal handling (two of them share one process), and with a way to await start-up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def uvicorn_config(app: object, drain_s: float) -> uvicorn.Config:
    """How every listener is served; `drain_s` is how long requests in flight may take to finish."""
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=GatewayProtocol,
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=drain_s,  # type: ignore[arg-type] # seconds, whole or not
        backlog=2048,
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 = any free one.

    Raises: OSError.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=2048)
    # Handed down to every connection. Left to itself the kernel keeps up to 4 MB for a client that reads slowly.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    return listening


def url_of(listening: socket.socket) -> str:
    """The address a client on this machine can use."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{host}:{port}"


@contextlib.contextmanager
def reloaded_by_signal(reload: Callable[[str], Coroutine[None, None, None]]) -> Iterator[None]:
    """While inside, SIGHUP calls `reload("SIGHUP")`."""
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()

    def begin() -> None:
        task = loop.create_task(reload("SIGHUP"))
        running.add(task)
        task.add_done_callback(running.discard)

    loop.add_signal_handler(signal.SIGHUP, begin)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


@contextlib.contextmanager
def drained_by_signals(server: Server, delay_s: float, drain: Callable[[], None]) -> Iterator[None]:
    """While inside, SIGTERM or SIGINT calls `drain`, and after `delay_s` the server stops accepting and lets what is
    in flight finish; a second signal cuts what is left."""
    loop = asyncio.get_running_loop()
    stopping = False

    def stop_accepting() -> None:
        server.should_exit = True

    def stop(number: int) -> None:
        nonlocal stopping
        if stopping:
            server.force_exit = server.should_exit = True
            return
        stopping = True
        log.info("%s: draining", signal.Signals(number).name)
        drain()
        loop.call_later(delay_s, stop_accepting)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
