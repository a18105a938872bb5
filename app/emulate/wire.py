"""Where an answer is written to, with or without a fault in the way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from app.api.asgi import DISCONNECT, Headers, Scope, Send
from backends.clock import Clock
from backends.emulator.faults import Fault


class Wire:
    """Sends a response piece by piece. Its last, empty piece is sent by `close`, when nothing can go wrong any more."""

    def __init__(self, scope: Scope, send: Send, clock: Clock) -> None:
        self._scope = scope
        self._send = send
        self._clock = clock
        self.started = False

    async def start(self, status: int, headers: Headers) -> None:
        """Status and headers."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def chunk(self, frame: bytes) -> None:
        """A frame of a stream."""
        await self._put(frame)

    async def whole(self, body: bytes) -> None:
        """An answer in one piece, after a `start` that announced its length."""
        await self._put(body)

    async def close(self) -> None:
        """The response is complete."""
        await self._send({"type": "http.response.body", "body": b""})

    async def hang_up(self) -> None:
        """Close the connection, whatever was promised. Does not return: the task is cancelled as if its client had
        left, which is what it looks like from here."""
        extension: Mapping[str, Any] = self._scope.get("extensions", {}).get(DISCONNECT, {})
        extension["hang_up"]()
        await asyncio.Event().wait()

    async def stall(self, seconds: float | None) -> None:
        """Wait; None = until the client gives up."""
        if seconds is None:
            await asyncio.Event().wait()
        else:
            await self._clock.sleep_until(self._clock.now_ns() + int(seconds * 1e9))

    async def _put(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})


class DrippingWire(Wire):
    """Everything trickles."""

    def __init__(self, scope: Scope, send: Send, clock: Clock, fault: Fault) -> None:
        super().__init__(scope, send, clock)
        self._fault = fault

    async def _put(self, data: bytes) -> None:
        step, pause_ns = self._fault.chunk_bytes, int(self._fault.pause_s * 1e9)
        for begin in range(0, len(data), step):
            await super()._put(data[begin : begin + step])
            await self._clock.sleep_until(self._clock.now_ns() + pause_ns)


class StallingWire(Wire):
    """Nothing more comes after some chunks, for a while or for good. An answer in one piece stalls before it."""

    def __init__(self, scope: Scope, send: Send, clock: Clock, fault: Fault) -> None:
        super().__init__(scope, send, clock)
        self._left = fault.after_chunks
        self._hang_s = fault.hang_s

    async def chunk(self, frame: bytes) -> None:
        if self._left == 0:
            await self.stall(self._hang_s)
        self._left -= 1
        await super().chunk(frame)

    async def whole(self, body: bytes) -> None:
        await self.stall(self._hang_s)
        await super().whole(body)


class CutWire(Wire):
    """The connection breaks after some chunks, or half of an answer in one piece."""

    def __init__(self, scope: Scope, send: Send, clock: Clock, fault: Fault) -> None:
        super().__init__(scope, send, clock)
        self._left = fault.after_chunks

    async def chunk(self, frame: bytes) -> None:
        if self._left == 0:
            await self.hang_up()
        self._left -= 1
        await super().chunk(frame)

    async def whole(self, body: bytes) -> None:
        await self._put(body[: len(body) // 2])
        await self.hang_up()


class MalformedWire(Wire):
    """One chunk is half a JSON document."""

    def __init__(self, scope: Scope, send: Send, clock: Clock, fault: Fault) -> None:
        super().__init__(scope, send, clock)
        self._left = fault.after_chunks

    async def chunk(self, frame: bytes) -> None:
        if self._left == 0:
            frame = frame.partition(b"\n")[0][: len(frame) // 2] + b"\n\n"
        self._left -= 1
        await super().chunk(frame)

    async def whole(self, body: bytes) -> None:
        half = body[: len(body) // 2]
        await super().whole(half + b" " * (len(body) - len(half)))


def wire(scope: Scope, send: Send, clock: Clock, fault: Fault | None) -> Wire:
    """The wire for a request."""
    faulty = {"hang": StallingWire, "drip": DrippingWire, "cut": CutWire, "malformed": MalformedWire}
    before_all = fault is not None and fault.kind == "hang" and fault.after_chunks == 0
    if fault is None or before_all or fault.kind not in faulty:
        return Wire(scope, send, clock)
    return faulty[fault.kind](scope, send, clock, fault)
