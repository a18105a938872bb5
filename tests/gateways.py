"""Gateways for tests: a real `turnout serve` process, or one in this event loop over scripted backends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import uvicorn

from app.config.caching import CacheOff
from app.config.load import LoadedConfig, load
from app.config.models import (
    Config,
    DeploymentConfig,
    EmulatedBackendConfig,
    LedgerConfig,
    ModelConfig,
    TokenPricing,
)
from app.listening import uvicorn_config
from app.wiring import Gateway, build
from backends.base import Backend
from backends.clock import Clock
from tests.fakes import ScriptedBackend


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a gateway listens."""

    url: str
    admin_url: str
    process: subprocess.Popen[str] | None = None


@contextlib.contextmanager
def serving(
    folder: Path, config: Path | None = None, python: str = sys.executable, **environment: str
) -> Iterator[Addresses]:
    """`turnout serve` as a process of its own, on free ports; ended by SIGTERM, which must drain it cleanly."""
    arguments = [python, "-m", "app", "serve", "--port", "0", "--admin-port", "0", "--json"]
    if config is not None:
        arguments += ["--config", str(config)]
    root = Path(__file__).resolve().parents[1]
    with (folder / "stderr").open("w") as errors:
        process = subprocess.Popen(
            arguments,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(root), **environment},
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (folder / "stderr").read_text()
            addresses = json.loads(line)
            yield Addresses(addresses["url"], addresses["admin_url"], process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=30)
            process.stdout.close()  # type: ignore[union-attr]
        assert code == 0, (folder / "stderr").read_text()


@contextlib.contextmanager
def gateway_processes(folder: Path, config: str, count: int) -> Iterator[list[tuple[str, str, subprocess.Popen[str]]]]:
    """So many `turnout serve` side by side; url, admin url and process of each. Killed at the end."""
    root = Path(__file__).resolve().parents[1]
    with contextlib.ExitStack() as stack:
        started = []
        for number in range(count):
            own = folder / str(number)
            own.mkdir()
            (own / "turnout.yaml").write_text(config)
            errors = stack.enter_context((own / "stderr").open("w"))
            command = [sys.executable, "-m", "app", "serve", "--port", "0", "--admin-port", "0", "--json"]
            process = subprocess.Popen(
                [*command, "--config", str(own / "turnout.yaml")],
                stdout=subprocess.PIPE, stderr=errors, text=True, cwd=own,
                env={**os.environ, "PYTHONPATH": str(root)},
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.kill)
            started.append((own, process))
        listed = []
        for own, process in started:
            assert process.stdout is not None
            line = process.stdout.readline()
            process.stdout.close()
            assert line, (own / "stderr").read_text()
            addresses = json.loads(line)
            listed.append((addresses["url"], addresses["admin_url"], process))
        yield listed


def scripted_config(folder: Path, backends: Sequence[ScriptedBackend], **sections: Any) -> LoadedConfig:
    """A configuration for scripted backends, all serving model `m` at token prices."""
    shipped = load()
    listed = tuple(
        EmulatedBackendConfig(
            name=backend.info.name,
            kind="gpu",
            chip="h100",
            chips=1,
            deployments=(DeploymentConfig(model="m", precision="fp8"),),
            pricing=_price(index),
        )
        for index, backend in enumerate(backends)
    )
    config = shipped.config.model_copy(
        update={
            "models": {"m": ModelConfig(aliases=("alias-of-m",))},
            "backends": listed,
            "cache": CacheOff(type="off"),
            "ledger": LedgerConfig(path=folder / "ledger.sqlite3", flush_interval_s=0.05),
            **sections,
        }
    )
    assert isinstance(config, Config)
    return replace(shipped, config=config)


def _price(index: int) -> TokenPricing:
    """$1 and $2 per million for the first two; each after that a tenth dearer than the one before."""
    factor = Decimal("1.1") ** max(0, index - 1)
    return TokenPricing(
        type="tokens",
        usd_per_million_prompt=Decimal(1) * factor,
        usd_per_million_completion=Decimal(2) * factor,
        source="test",
        confidence="vendor-stated",
    )


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway in this event loop."""

    gateway: Gateway
    url: str
    admin_url: str


@contextlib.asynccontextmanager
async def running(
    loaded: LoadedConfig,
    backends: Sequence[Backend] | None = None,
    clock: Clock | None = None,
    read: Callable[[], LoadedConfig] | None = None,
) -> AsyncIterator[Running]:
    """Both applications under real uvicorn servers on free ports. Of several backends of a name the last is taken by
    the configurations that `read` gives."""
    named = {backend.info.name: backend for backend in backends} if backends else None
    gateway = build(loaded, clock, named, read)
    async with gateway.running(), contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(listening(gateway.app))
        admin_url = await stack.enter_async_context(listening(gateway.admin_app))
        yield Running(gateway, url, admin_url)


@contextlib.asynccontextmanager
async def listening(app: Any) -> AsyncIterator[str]:
    """An application under a real uvicorn server on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn_config(app, 5))
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment]
    task = asyncio.create_task(server.serve([listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)
