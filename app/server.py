"""Running a gateway: two listeners in one event loop, ready lines on stdout, graceful drain on SIGTERM.

On the first SIGTERM or SIGINT the gateway stops being ready, after `server.drain_delay_s` stops accepting, lets what is
in flight finish (at most `server.drain_timeout_s`), then closes the admin port, writes the ledger out and exits 0.
A second signal cuts what is left. SIGHUP reloads the configuration.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
import sys
from collections.abc import Callable

import uvloop

from app.config.load import LoadedConfig
from app.errors import StartupError
from app.listening import Server, calm_collector, drained_by_signals, listen, reloaded_by_signal, url_of, uvicorn_config
from app.wiring import Gateway, build

ADMIN_DRAIN_S = 1.0

log = logging.getLogger("turnout.server")


def run(read: Callable[[], LoadedConfig], loaded: LoadedConfig, *, as_json: bool = False) -> int:
    """Serve until told to stop; the exit code of the process. `read` loads the configuration anew, for a reload."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for warning in loaded.warnings:
        log.warning("%s", warning)
    for chatty in ("uvicorn", "httpx"):  # a line for every request
        logging.getLogger(chatty).setLevel(logging.WARNING)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_serve(read, loaded, as_json))
        except StartupError as error:
            print(f"cannot start: {error}", file=sys.stderr)
            return 1


def _listening(host: str, port: int, setting: str) -> socket.socket:
    """Raises: OSError that says where, and how to listen elsewhere."""
    try:
        return listen(host, port)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise OSError(f"on {host}:{port}: {error.strerror or error}") from None
        option = f"--{setting.replace('_', '-')} N"
        raise OSError(
            f"on {host}:{port}: {os.strerror(error.errno)}; for another port: {option}, or server.{setting} "
            "in a configuration (make run CONFIG=FILE)"
        ) from None


async def _serve(read: Callable[[], LoadedConfig], loaded: LoadedConfig, as_json: bool) -> int:
    server = loaded.config.server
    try:
        public = _listening(server.host, server.port, "port")
        admin = _listening(server.admin_host, server.admin_port, "admin_port")
    except OSError as error:
        print(f"cannot listen {error}", file=sys.stderr)
        return 1
    gateway = build(loaded, read=read)
    public_server = Server(uvicorn_config(gateway.app, server.drain_timeout_s))
    admin_server = Server(uvicorn_config(gateway.admin_app, ADMIN_DRAIN_S))
    with (
        drained_by_signals(public_server, server.drain_delay_s, gateway.drain),
        reloaded_by_signal(gateway.reloader.reload_and_log),
    ):
        async with gateway.running():
            calm_collector()
            admin_task = asyncio.create_task(admin_server.serve([admin]))
            public_task = asyncio.create_task(public_server.serve([public]))
            await asyncio.gather(public_server.listening.wait(), admin_server.listening.wait())
            if as_json:
                print(
                    json.dumps({"url": url_of(public), "admin_url": url_of(admin), "config": loaded.hash}), flush=True
                )
            else:
                _announce(gateway, url_of(public), url_of(admin))
            await public_task
            admin_server.should_exit = True  # last, so that the end can still be scraped
            await admin_task
    return 0


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
