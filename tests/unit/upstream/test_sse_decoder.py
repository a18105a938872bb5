"""Server-sent events, however the network cuts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.upstream.sse import Decoder, EventTooLong, data_of, with_data
from tests.upstreams import pieces_of

ENDS = (b"\n", b"\r", b"\r\n")
LINES = st.sampled_from(
    [b"data: {}", b"data:x", b"data", b"data:  two", b": note", b"event: e", b"id: 1", b"retry: 9", b"datum: x", b""]
)


def decode(*pieces: bytes) -> list[bytes]:
    decoder = Decoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def by_the_book(lines: list[bytes]) -> list[bytes]:
    """The standard's algorithm, word by word, over lines."""
    events: list[bytes] = []
    data: list[bytes] = []
    for line in lines:
        if not line:
            if data:
                events.append(b"\n".join(data))
            data = []
        elif not line.startswith(b":"):
            name, _, value = line.partition(b":")
            if name == b"data":
                data.append(value[1:] if value[:1] == b" " else value)
    return events


@given(st.lists(st.tuples(LINES, st.sampled_from(ENDS)), max_size=20), st.lists(st.integers(0, 200), max_size=12))
def test_every_split_and_every_line_end_mean_the_same(lines: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    # An empty line after CR would merge with its LF, as it should: then the lines are not what was drawn.
    whole = b"".join(line + end for line, end in lines)
    expected = by_the_book([line.rstrip(b"\r\n") for line in whole.splitlines(keepends=True)])
    assert decode(whole) == expected
    assert decode(*pieces_of(whole, [cut for cut in cuts if cut <= len(whole)])) == expected
    assert decode(*(whole[at : at + 1] for at in range(len(whole)))) == expected


@given(st.lists(st.tuples(LINES, st.sampled_from(ENDS)), max_size=20), st.lists(st.integers(0, 200), max_size=12))
def test_whole_events_are_the_stream_and_hold_the_data(lines: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    stream = b"".join(line + end for line, end in lines)
    decoder, bare = Decoder(whole=True), decode(stream)
    events = [
        e for piece in pieces_of(stream, [cut for cut in cuts if cut <= len(stream)]) for e in decoder.feed(piece)
    ]
    assert [data_of(event) for event in events] == bare
    assert stream.startswith(b"".join(events))
    assert [data_of(with_data(event, b"new")) for event in events] == [b"new"] * len(bare)


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_any_bytes_are_read(pieces: list[bytes]) -> None:
    assert decode(*pieces) == decode(b"".join(pieces))


def test_an_event_cut_off_by_the_end_is_none() -> None:
    assert decode(b"data: a\n\ndata: b\n") == [b"a"]


def test_a_byte_order_mark_is_dropped_once() -> None:
    assert decode(b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n") == [b"a"]


@pytest.mark.parametrize("piece", [b"x" * 30, b"data: " + b"y" * 20 + b"\n", b"data:\n", b": " + b"z" * 30])
def test_an_endless_event_is_refused(piece: bytes) -> None:
    decoder = Decoder(max_event_bytes=64)
    with pytest.raises(EventTooLong):
        for _ in range(100):
            decoder.feed(piece)


def test_comments_for_hours_are_fine() -> None:
    decoder = Decoder(max_event_bytes=64)
    assert all(decoder.feed(b": still here\n\n") == [] for _ in range(100))
    assert decoder.feed(b"data: a\n\n") == [b"a"]
