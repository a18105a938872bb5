"""CPU of the gateway per request over a backend that answers at once, everything on: cache key and miss, decision,
metering, ledger, metrics, headers. Command: python -m tests.benchmark gateway.

The gateway is a process of its own; its CPU time is read from /proc, so the load generator's does not count.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import uvicorn
import uvloop

from app.config.caching import MemoryCache
from app.config.models import LedgerConfig
from app.listening import calm_collector, uvicorn_config
from app.wiring import build
from backends.types import (
    BackendInfo,
    BackendSnapshot,
    ChoiceEnd,
    DeploymentInfo,
    EngineShare,
    Event,
    GenerationRequest,
    TokenChunk,
    Usage,
)
from tests.fakes import PROFILE
from tests.gateways import scripted_config

REQUESTS, CONNECTIONS = 6000, 8
PROMPT = "route this prompt to the silicon that answers it at the lowest cost " * 12
ANSWER = "a hundred words would be said here if time were taken to say them " * 8


class Instant:
    """A backend that answers without waiting; there are as many as the shipped fleet has for a model."""

    def __init__(self, name: str) -> None:
        self.info = BackendInfo(name, "gpu", "emulated", "none", 1, {"m": DeploymentInfo("m", "fp8", 131_072, PROFILE)})

    async def start(self) -> None:
        """Nothing to start."""

    def generate(self, request: GenerationRequest) -> Answered:
        return Answered()

    def snapshot(self) -> BackendSnapshot:
        return BackendSnapshot()

    def warm(self) -> None:
        return None

    async def ping(self) -> None:
        """Always there."""

    async def aclose(self) -> None:
        """Nothing to free."""


class Answered:
    """One chunk and the end."""

    def __init__(self) -> None:
        self._events: list[Event] = [ChoiceEnd(0, "stop"), TokenChunk(0, ANSWER, 100)]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if not self._events:
            raise StopAsyncIteration
        return self._events.pop()

    def usage(self) -> Usage:
        return Usage(156, 0, 100)

    def engine_share(self) -> EngineShare:
        return EngineShare(1000, 1000)

    def service_times(self) -> None:
        """It tells nothing."""
        return

    async def aclose(self) -> None:
        """Nothing to free."""


def serve(folder: str) -> None:
    """The gateway's process: prints its port, serves until SIGTERM."""
    backends = [Instant(f"b{index}") for index in range(7)]
    ledger = LedgerConfig(path=Path(folder) / "ledger.sqlite3")
    loaded = scripted_config(
        Path(folder),
        backends,  # type: ignore[arg-type]
        cache=MemoryCache(type="memory"),
        ledger=ledger,
    )
    calm_collector()
    gateway = build(loaded, None, {backend.info.name: backend for backend in backends})
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn_config(gateway.app, 5))

    async def main() -> None:
        async with gateway.running():
            task = asyncio.create_task(server.serve([listening]))
            print(listening.getsockname()[1], flush=True)
            await task

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def connection(port: int, count: int, seeded: bool, latencies_s: list[float]) -> None:
    """`count` requests on one connection, one after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(count):
        body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 100}
        if seeded:
            body["seed"] = hash((port, id(writer), number)) % 2**31
        sent = json.dumps(body).encode()
        began_s = time.perf_counter()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"authorization: Bearer sk-test\r\ncontent-length: %d\r\n\r\n%b" % (len(sent), sent)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        latencies_s.append(time.perf_counter() - began_s)
    writer.close()


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(port: int, pid: int, *, seeded: bool) -> Mapping[str, float]:
    """One sample."""
    latencies_s: list[float] = []

    async def load() -> None:
        await asyncio.gather(
            *(connection(port, REQUESTS // CONNECTIONS, seeded, latencies_s) for _ in range(CONNECTIONS))
        )

    before_s, began_s = cpu_s(pid), time.perf_counter()
    asyncio.run(load())
    took_s = time.perf_counter() - began_s
    latencies_s.sort()
    return {
        "cpu_us_per_request": (cpu_s(pid) - before_s) / len(latencies_s) * 1e6,
        "requests_per_s": len(latencies_s) / took_s,
        "p50_ms": latencies_s[len(latencies_s) // 2] * 1e3,
        "p99_ms": latencies_s[len(latencies_s) * 99 // 100] * 1e3,
    }


def run() -> dict[str, float]:
    """Medians of three samples: without a seed (cache off), and with a fresh one each (cache key, miss, store)."""
    results: dict[str, float] = {}
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.benchmark.gateway", folder]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        port = int(process.stdout.readline())
        try:
            measure(port, process.pid, seeded=True)
            for name, seeded in (("plain", False), ("cacheable", True)):
                samples = [measure(port, process.pid, seeded=seeded) for _ in range(3)]
                for key in samples[0]:
                    results[f"{name}_{key}"] = sorted(sample[key] for sample in samples)[1]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=20)
            process.stdout.close()
    return results


if __name__ == "__main__":
    serve(sys.argv[1])
