"""What a benchmark needs of a completion stream, read with little work. Pure: bytes and times in, facts out.

Only the events that carry usage or an error are decoded; of the others it matters when the first with text came. A
benchmark shares its machine with the gateway, so what it does per chunk is a few searches in C.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

_TEXT = (b'"delta":{"content":', b'"text":"')
_DECODED = (b'"usage":{', b'"error":{')
_END = b"\n\n"
_DONE = b"data: [DONE]"


class StreamReader:
    """Feed it what arrives, in pieces of any size. Times are the caller's, in seconds; None = not observed."""

    def __init__(self) -> None:
        self.first_text_s: float | None = None
        self.usage: Mapping[str, Any] | None = None
        self.error: str | None = None
        self._rest = b""
        self._done = False

    def feed(self, piece: bytes, now_s: float) -> None:
        """One read from the socket, and when it was made."""
        data = self._rest + piece
        if self.first_text_s is None and any(mark in data for mark in _TEXT):
            self.first_text_s = now_s
        whole, end, self._rest = data.rpartition(_END)
        if not end:
            return
        if any(mark in whole for mark in _DECODED):
            for event in whole.split(_END):
                self._decode(event)
        self._done = self._done or _DONE in whole

    def end(self) -> None:
        """The stream is over: without `[DONE]` and without an error of its own it was cut."""
        if not self._done and self.error is None:
            self.error = "cut_stream"

    def _decode(self, event: bytes) -> None:
        if not event.startswith(b"data: {") or not any(mark in event for mark in _DECODED):
            return
        try:
            chunk = msgspec.json.decode(event[len(b"data: ") :])
            self.usage = chunk.get("usage") or self.usage
            if chunk.get("error"):
                self.error = str(chunk["error"].get("code") or "stream_error")
        except (msgspec.DecodeError, AttributeError):
            self.error = "not_json"
