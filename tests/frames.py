"""Streams as services frame them, for shapes that say only what is in a frame."""

from __future__ import annotations

import json
from typing import Any


def framed(dialect: str, listed: list[Any]) -> bytes:
    """The bytes of a stream of a dialect."""
    return b"".join(_event(frame) for frame in listed)


def _event(frame: Any) -> bytes:
    data = frame if isinstance(frame, str) else json.dumps(frame)
    name = f"event: {frame['type']}\n" if isinstance(frame, dict) and "type" in frame else ""
    return f"{name}data: {data}\n\n".encode()
