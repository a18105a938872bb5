"""Streams as services frame them, for shapes that say only what is in a frame."""

from __future__ import annotations

import json
from binascii import crc32
from struct import pack
from typing import Any


def framed(dialect: str, listed: list[Any]) -> bytes:
    """The bytes of a stream of a dialect."""
    if dialect == "bedrock":
        return b"".join(_amazons(frame) for frame in listed)
    stream = b"".join(_event(frame) for frame in listed)
    if dialect != "sagemaker":
        return stream
    # A container's stream is cut where it happens to be.
    pieces = [stream[start : start + 50] for start in range(0, len(stream), 50)]
    return b"".join(message({":message-type": "event", ":event-type": "PayloadPart"}, piece) for piece in pieces)


def message(headers: dict[str, str], payload: bytes) -> bytes:
    """A message of Amazon's event stream: lengths, their checksum, headers, payload, the checksum of all."""
    named = b"".join(
        pack("!B", len(name)) + name.encode() + pack("!BH", 7, len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = pack("!II", 16 + len(named) + len(payload), len(named))
    body = prelude + pack("!I", crc32(prelude)) + named + payload
    return body + pack("!I", crc32(body))


def _amazons(frame: Any) -> bytes:
    if "exception" in frame:
        headers = {":message-type": "exception", ":exception-type": str(frame["exception"])}
        return message(headers, json.dumps({"message": frame.get("message")}).encode())
    ((kind, payload),) = frame.items()
    headers = {":message-type": "event", ":event-type": kind, ":content-type": "application/json"}
    return message(headers, json.dumps(payload).encode())


def _event(frame: Any) -> bytes:
    data = frame if isinstance(frame, str) else json.dumps(frame)
    name = f"event: {frame['type']}\n" if isinstance(frame, dict) and "type" in frame else ""
    return f"{name}data: {data}\n\n".encode()
