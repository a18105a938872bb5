"""Server-sent events, decoded incrementally. No I/O: bytes in, in pieces of any size, the data of whole events out.

As WHATWG HTML 9.2.6 has it: lines end in CRLF, LF or CR; a leading byte order mark is dropped; lines of `data` are
joined by a line feed; comments and fields other than `data` are skipped; an event without data is none; one that the
stream's end cuts off is none either.

For whoever passes a stream on, the decoder keeps events as they came (`whole`): one after the other they are the
stream, comments, ids and line ends with it, however it was cut.
"""

from __future__ import annotations

MAX_EVENT_BYTES = 8 * 1024 * 1024
MAX_ASIDE_BYTES = 64 * 1024
"""A service may keep a stream alive with comments for ever: what waits for an event past this is not passed on."""

_BOM = b"\xef\xbb\xbf"
_ENDS = (b"\n", b"\r")


class EventTooLong(ValueError):
    """An event exceeds the bound: whoever sends it does not speak this protocol."""


class Decoder:
    """The state between two pieces of one stream."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES, *, whole: bool = False) -> None:
        """`whole`: events as they came, not their data alone (`data_of` tells it)."""
        self._max_event_bytes = max_event_bytes
        self._whole = whole
        self._came: list[bytes] = []
        self._aside_bytes = 0
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._line_bytes = 0
        self._data_bytes = 0
        self._skip_line_feed = False
        self._started = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of every event that `piece` completes, in order; or all of it (`whole`).

        Raises: EventTooLong.
        """
        if self._skip_line_feed and piece:
            if piece[0] == 0x0A:
                piece = piece[1:]
                if self._whole:
                    self._came.append(b"\n")  # its event has gone; before the next one it means nothing
            self._skip_line_feed = False
        if _is_plain(piece) and not (self._line or self._data or self._came):
            self._started = True
            return [piece if self._whole else piece[6:-2]]  # a service that flushes each event is read twice as fast
        if not any(end in piece for end in _ENDS):
            self._keep(piece)
            return []
        self._skip_line_feed = piece[-1] == 0x0D  # its line feed may come with the next piece
        lines = (b"".join(self._line) + piece).splitlines(keepends=True)
        self._line, self._line_bytes = [], 0
        rest = b"" if lines[-1].endswith(_ENDS) else lines.pop()
        events: list[bytes] = []
        for line in lines:
            self._take(line, events)
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
        bare = line.rstrip(b"\r\n")
        name, _, value = bare.partition(b":")
        if self._whole:
            self._keep_whole(line, aside=name != b"data")
        if not bare:
            if self._data:
                events.append(b"".join(self._came) if self._whole else b"\n".join(self._data))
                self._data, self._data_bytes = [], 0
                self._came, self._aside_bytes = [], 0
        elif name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._data_bytes += len(value) + 1
            self._check_size()

    def _keep_whole(self, line: bytes, *, aside: bool) -> None:
        if aside and not self._data:
            self._aside_bytes += len(line)
            if self._aside_bytes > MAX_ASIDE_BYTES:
                return
        self._came.append(line)

    def _check_size(self) -> None:
        if self._line_bytes + self._data_bytes > self._max_event_bytes:
            raise EventTooLong(f"an event of more than {self._max_event_bytes:,} bytes")


def data_of(event: bytes) -> bytes:
    """The data of an event as it came."""
    if _is_plain(event):
        return event[6:-2]
    return b"\n".join(data for line in event.splitlines() if (data := _data_in(line)) is not None)


def with_data(event: bytes, data: bytes) -> bytes:
    """An event as it came, but for its data, which is one line and stands where the first of it stood."""
    if _is_plain(event):
        return b"data: " + data + b"\n\n"
    lines: list[bytes] = []
    told = False
    for line in event.splitlines(keepends=True):
        bare = line.rstrip(b"\r\n")
        if _data_in(bare) is None:
            lines.append(line)
        elif not told:
            told = True
            lines.append(b"data: " + data + line[len(bare) :])
    return b"".join(lines)


def _is_plain(event: bytes) -> bool:
    """Whether it is one line of data and nothing else, as nearly all are."""
    ends = event.endswith(b"\n\n") and event.find(b"\n") == len(event) - 2
    return ends and event.startswith(b"data: ") and b"\r" not in event


def _data_in(line: bytes) -> bytes | None:
    name, _, value = line.partition(b":")
    return value.removeprefix(b" ") if name == b"data" else None
