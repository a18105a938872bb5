"""What the gateway adds to the time to first token of a real service, against asking it directly.

Command: python -m tests.benchmark relay. Service, gateway and client are processes of their own on loopback; the
service answers at once, so all that is seen is the way there and back. Direct and through the gateway take turns,
request by request, over connections that stay open: the figures are paired.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

from tests.gateways import serving
from tests.upstreams import MODEL, delta, live_config, sse, usage_chunk

PAIRS, WARM_UP = 1500, 200
ROUNDS_OF_EIGHT = 150
WORDS = [delta("one", role="assistant"), *(delta(" word") for _ in range(30)), delta(finish="stop")]
STREAM = sse(*WORDS, usage_chunk(9, 31))
BODY = json.dumps(
    {"model": MODEL, "messages": [{"role": "user", "content": "say something " * 60}], "stream": True}
).encode()
FIRST = b'"content":'


async def serve() -> None:
    """The service: every request gets the same stream, at once."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(STREAM), STREAM)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                asked = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1]) for line in asked.lower().split(b"\r\n") if b"content-length" in line
                )
                await reader.readexactly(length)
                writer.write(head + framed)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Connection:
    """Asks again and again over one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ttft_s(self) -> float:
        """From the request's last byte to the first piece of the answer."""
        started_s = time.perf_counter()
        self._writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-turnout-policy: round-robin\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
        )
        seen = b""
        while FIRST not in seen:
            seen += await self._reader.read(65536)
        first_s = time.perf_counter() - started_s
        while not seen.endswith(b"0\r\n\r\n"):
            seen += await self._reader.read(65536)
        return first_s

    def close(self) -> None:
        """Close it."""
        self._writer.close()


async def paired(direct_port: int, gateway_port: int) -> dict[str, float]:
    """One at a time, then eight at a time."""
    direct, through = await Connection.to(direct_port), await Connection.to(gateway_port)
    pairs = [(await direct.ttft_s(), await through.ttft_s()) for _ in range(WARM_UP + PAIRS)][WARM_UP:]
    eight = [(await Connection.to(direct_port), await Connection.to(gateway_port)) for _ in range(8)]
    crowded: list[tuple[float, float]] = []
    for _ in range(ROUNDS_OF_EIGHT):
        straight = await asyncio.gather(*(one.ttft_s() for one, _ in eight))
        relayed = await asyncio.gather(*(other.ttft_s() for _, other in eight))
        crowded += zip(straight, relayed, strict=True)
    for connection in [direct, through, *(each for pair in eight for each in pair)]:
        connection.close()
    return {**_figures("alone", pairs), **_figures("of eight", crowded)}


def run() -> dict[str, float]:
    """Milliseconds; the added ones are medians and 99th percentiles of paired differences."""
    service = subprocess.Popen([sys.executable, "-m", "tests.benchmark.relay"], stdout=subprocess.PIPE, text=True)
    try:
        assert service.stdout is not None
        port = int(service.stdout.readline())
        with TemporaryDirectory() as folder:
            live_config(Path(folder), {"up": f"http://127.0.0.1:{port}"})
            with serving(Path(folder), Path(folder) / "turnout.yaml") as gateway:
                return asyncio.run(paired(port, int(gateway.url.rpartition(":")[2])))
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait()


def _figures(name: str, pairs: list[tuple[float, float]]) -> dict[str, float]:
    added = [(through - direct) * 1e3 for direct, through in pairs]
    return {
        f"TTFT {name}, direct, ms": median(direct for direct, _ in pairs) * 1e3,
        f"TTFT {name}, gateway, ms": median(through for _, through in pairs) * 1e3,
        f"added {name}, ms": median(added),
        f"added {name}, p99, ms": quantiles(added, n=100)[98],
    }


if __name__ == "__main__":
    asyncio.run(serve())
