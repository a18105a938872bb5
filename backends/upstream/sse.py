"""Server-sent events, decoded incrementally. No I/O: bytes in, in pieces of any size, the data of whole events out.

As WHATWG HTML 9.2.6 has it: lines end in CRLF, LF or CR; a leading byte order mark is dropped; lines of `data` are
joined by a line feed; comments and fields other than `data` are skipped; an event without data is none; one that the
stream's end cuts off is none either.
"""

from __future__ import annotations

MAX_EVENT_BYTES = 8 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_ENDS = (b"\n", b"\r")


class EventTooLong(ValueError):
    """An event exceeds the bound: whoever sends it does not speak this protocol."""


class Decoder:
    """The state between two pieces of one stream."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._line_bytes = 0
        self._data_bytes = 0
        self._skip_line_feed = False
        self._started = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of every event that `piece` completes, in order.

        Raises: EventTooLong.
        """
        if self._skip_line_feed and piece:
            piece = piece[1:] if piece[0] == 0x0A else piece
            self._skip_line_feed = False
        if not any(end in piece for end in _ENDS):
            self._keep(piece)
            return []
        self._skip_line_feed = piece[-1] == 0x0D  # its line feed may come with the next piece
        lines = (b"".join(self._line) + piece).splitlines(keepends=True)
        self._line, self._line_bytes = [], 0
        rest = b"" if lines[-1].endswith(_ENDS) else lines.pop()
        events: list[bytes] = []
        for line in lines:
            self._take(line.rstrip(b"\r\n"), events)
        if rest:
            self._keep(rest)
        return events

    def _keep(self, part: bytes) -> None:
        """Remember the beginning of a line."""
        self._line.append(part)
        self._line_bytes += len(part)
        self._check_size()

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if not self._started:
            self._started = True
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data, self._data_bytes = [], 0
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._data_bytes += len(value) + 1
            self._check_size()

    def _check_size(self) -> None:
        if self._line_bytes + self._data_bytes > self._max_event_bytes:
            raise EventTooLong(f"an event of more than {self._max_event_bytes:,} bytes")
