"""Running a gateway: two listeners in one event loop, ready lines on stdout, graceful drain on SIGTERM.

On the first SIGTERM or SIGINT the gateway stops being ready, after `server.drain_delay_s` stops accepting, lets what is
in flight finish (at most `server.drain_timeout_s`), then closes the admin port, writes the ledger out and exits 0.
A second signal cuts what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn
import uvloop

from app.config.load import LoadedConfig
from app.errors import StartupError
from app.protocol import GatewayProtocol
from app.wiring import Gateway, build

ADMIN_DRAIN_S = 1.0

log = logging.getLogger("turnout.server")


def run(loaded: LoadedConfig, *, as_json: bool = False) -> int:
    """Serve until told to stop; the exit code of the process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for warning in loaded.warnings:
        log.warning("%s", warning)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_serve(loaded, as_json))
        except StartupError as error:
            print(f"cannot start: {error}", file=sys.stderr)
            return 1


async def _serve(loaded: LoadedConfig, as_json: bool) -> int:
    server = loaded.config.server
    try:
        public = _listen(server.host, server.port)
        admin = _listen(server.admin_host, server.admin_port)
    except OSError as error:
        print(f"cannot listen: {error}", file=sys.stderr)
        return 1
    gateway = build(loaded)
    public_server = _Server(uvicorn_config(gateway.app, server.drain_timeout_s))
    admin_server = _Server(uvicorn_config(gateway.admin_app, ADMIN_DRAIN_S))
    with _signals(gateway, public_server, server.drain_delay_s):
        async with gateway.running():
            calm_collector()
            admin_task = asyncio.create_task(admin_server.serve([admin]))
            public_task = asyncio.create_task(public_server.serve([public]))
            await asyncio.gather(public_server.listening.wait(), admin_server.listening.wait())
            if as_json:
                print(json.dumps({"url": _url(public), "admin_url": _url(admin), "config": loaded.hash}), flush=True)
            else:
                _announce(gateway, _url(public), _url(admin))
            await public_task
            admin_server.should_exit = True  # last, so that the end can still be scraped
            await admin_task
    return 0


def calm_collector() -> None:
    """Let the cyclic collector run less often: a request leaves a hundred tuples behind in its receipt and no cycles.

    What exists by now lives as long as the process, so it is not looked at again. Measured: a tenth of the CPU of a
    request (tests/benchmark/gateway.py).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


class _Server(uvicorn.Server):
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
    """How every listener of a gateway is served."""
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


@contextlib.contextmanager
def _signals(gateway: Gateway, public: _Server, delay_s: float) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    stopping = False

    def stop_accepting() -> None:
        public.should_exit = True

    def stop(number: int) -> None:
        nonlocal stopping
        if stopping:
            public.force_exit = public.should_exit = True
            return
        stopping = True
        log.info("%s: draining", signal.Signals(number).name)
        gateway.drain()
        loop.call_later(delay_s, stop_accepting)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{host}:{port}"


def _announce(gateway: Gateway, public: str, admin: str) -> None:
    model = gateway.models[0]
    print(f"Turnout is ready: {len(gateway.fleet.backends)} backends serving {', '.join(gateway.models)}")
    print(f"  API      {public}/v1")
    print(f"  metrics  {admin}/metrics")
    print(f"  admin    {admin}/admin/backends")
    print("Try it:")
    print(
        f"  curl -s {public}/v1/chat/completions -H 'content-type: application/json' -H 'x-turnout-debug: 1' \\\n"
        f'    -d \'{{"model":"{model}","messages":[{{"role":"user","content":"Say hello"}}]}}\'',
        flush=True,
    )
