"""A thousand clients that read slowly: the service is slowed in turn, memory stays bounded, nothing is lost."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path

from tests.gateways import serving
from tests.upstreams import MODEL, delta, live_config, sse, usage_chunk

STREAMS = 1000
CHUNKS = 500
TEXT = "x" * 1000
LIMIT_BYTES = 150 * 1024 * 1024


class Upstream:
    """Sends every request the same long stream, as fast as it is taken."""

    def __init__(self) -> None:
        self.sent = 0
        self.finished = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line)
            await reader.readexactly(length)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            for _ in range(CHUNKS):
                frame = sse(delta(TEXT), done=False)
                writer.write(frame)
                self.sent += len(frame)
                await writer.drain()
            writer.write(sse(delta(finish="stop"), usage_chunk(3, CHUNKS)))
            await writer.drain()
            self.finished += 1
        finally:
            writer.close()


class Client:
    """Reads a little, then waits to be let go, then reads the rest."""

    def __init__(self, go: asyncio.Event) -> None:
        self._go = go
        self.begun = asyncio.Event()
        self.chunks = 0

    async def run(self, port: int) -> None:
        body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()
        reader, writer = await asyncio.open_connection(sock=await connected(port), limit=4096)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-turnout-policy: round-robin\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        seen = await reader.read(1024)
        assert seen.startswith(b"HTTP/1.1 200"), seen
        self.begun.set()
        await self._go.wait()
        tail = seen
        self.chunks = seen.count(b'"content":')
        while piece := await reader.read(65536):
            joined = tail + piece
            self.chunks += joined.count(b'"content":') - tail.count(b'"content":')
            tail = joined[-200:]
        assert b"data: [DONE]" in tail
        writer.close()


async def connected(port: int) -> socket.socket:
    """A connection of which the kernel keeps little for a reader that does not read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    return connection


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_thousand_slow_readers(tmp_path: Path) -> None:
    upstream = Upstream()
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    server = await asyncio.start_server(upstream.serve, sock=listener, backlog=2048, limit=4096)
    live_config(tmp_path, {"up": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"})
    async with server:
        with serving(tmp_path, tmp_path / "turnout.yaml") as gateway:
            assert gateway.process is not None
            port = int(gateway.url.rpartition(":")[2])
            idle = resident_bytes(gateway.process.pid)
            go = asyncio.Event()
            clients = [Client(go) for _ in range(STREAMS)]
            async with asyncio.timeout(90), asyncio.TaskGroup() as group:
                for client in clients:
                    group.create_task(client.run(port))
                for client in clients:
                    await client.begun.wait()
                held = await settled(upstream)
                grown = resident_bytes(gateway.process.pid) - idle
                go.set()
    whole = STREAMS * CHUNKS * len(sse(delta(TEXT), done=False))
    print(f"{grown / 2**20:.0f} MiB above idle with {STREAMS} streams held, {held / whole:.0%} of it sent")
    assert upstream.finished == STREAMS
    assert [client.chunks for client in clients] == [CHUNKS] * STREAMS
    assert held < whole
    assert grown <= LIMIT_BYTES


async def settled(upstream: Upstream) -> int:
    """How much was sent once nothing more is taken."""
    before = -1
    while before != upstream.sent:
        before = upstream.sent
        await asyncio.sleep(1.0)
    return before
