"""What a benchmark needs of a completion stream, read with little work. Pure: bytes and times in, facts out.

Chunks are decoded up to the first with text, and later only those that carry usage or an error: a benchmark shares its
machine with the gateway.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from backends.upstream.sse import Decoder, EventTooLong

_TELLING = re.compile(rb'"(usage|error)":\s*\{')
_DONE = b"[DONE]"


class StreamReader:
    """Feed it what arrives, in pieces of any size. Times are the caller's, in seconds; None = not observed."""

    def __init__(self) -> None:
        self.first_text_s: float | None = None
        self.usage: Mapping[str, Any] | None = None
        self.error: str | None = None
        self._events = Decoder()
        self._done = False

    def feed(self, piece: bytes, now_s: float) -> None:
        """One read from the socket, and when it was made."""
        try:
            events = self._events.feed(piece)
        except EventTooLong:
            self.error = "not_a_stream"
            return
        for data in events:
            if data == _DONE:
                self._done = True
            elif self.first_text_s is None or _TELLING.search(data):
                self._decode(data, now_s)

    def end(self) -> None:
        """The stream is over: without `[DONE]` and without an error of its own it was cut."""
        if not self._done and self.error is None:
            self.error = "cut_stream"

    def _decode(self, data: bytes, now_s: float) -> None:
        try:
            chunk = msgspec.json.decode(data)
            self.usage = chunk.get("usage") or self.usage
            if chunk.get("error"):
                self.error = str(chunk["error"].get("code") or "stream_error")
            elif self.first_text_s is None and any(map(_says, chunk.get("choices") or ())):
                self.first_text_s = now_s
        except (msgspec.DecodeError, AttributeError, TypeError):
            self.error = "not_json"


def _says(choice: Mapping[str, Any]) -> bool:
    """Whether a choice carries anything a model generated."""
    delta = choice.get("delta") or {}
    return bool(choice.get("text")) or any(value for key, value in delta.items() if key != "role")
