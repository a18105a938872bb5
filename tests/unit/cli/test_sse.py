"""Reading a stream: the same facts however the network cuts it, and a cut stream is never a whole one."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.sse import StreamReader

ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
TEXT = b'data: {"choices":[{"delta":{"content":"word"}}],"usage":null}\n\n'
USAGE = b'data: {"choices":[],"usage":{"completion_tokens":2,"cost":0.5}}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE = ROLE + TEXT + TEXT + USAGE + DONE


def read(*pieces: bytes) -> StreamReader:
    reader = StreamReader()
    for number, piece in enumerate(pieces):
        reader.feed(piece, float(number))
    reader.end()
    return reader


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_where_the_network_cuts_changes_nothing(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(WHOLE)]
    reader = read(*(WHOLE[start:end] for start, end in itertools.pairwise(edges)))
    assert reader.error is None
    assert reader.usage == {"completion_tokens": 2, "cost": 0.5}


def test_first_text_is_neither_the_role_nor_the_second_word() -> None:
    assert read(ROLE, TEXT, TEXT, USAGE + DONE).first_text_s == 1.0
    assert read(ROLE, USAGE, DONE).first_text_s is None


def test_a_mark_split_between_two_reads_counts_when_complete() -> None:
    middle = TEXT.index(b"content")
    assert read(ROLE, TEXT[:middle], TEXT[middle:], DONE).first_text_s == 2.0


def test_text_completions_are_read_too() -> None:
    assert read(b'data: {"choices":[{"index":0,"text":"word"}]}\n\n', DONE).first_text_s == 0.0


@pytest.mark.parametrize("end", [b"", TEXT, DONE[:-2], b'data: {"error":null}\n\n'])
def test_a_stream_without_its_end_was_cut(end: bytes) -> None:
    assert read(ROLE + TEXT, end).error == "cut_stream"


def test_an_error_event_names_itself() -> None:
    assert read(TEXT, b'data: {"error":{"message":"m","code":"upstream_failed"}}\n\n').error == "upstream_failed"
    assert read(TEXT, b'data: {"error":{"message":"m","code":null}}\n\n').error == "stream_error"


@pytest.mark.parametrize("event", [b'data: {"usage":{]\n\n', b'data: {"error":{"x":"y"}} z\n\n'])
def test_what_is_not_json_is_an_error_and_no_traceback(event: bytes) -> None:
    assert read(TEXT, event, DONE).error == "not_json"


@given(st.lists(st.binary(max_size=40) | st.sampled_from([ROLE, TEXT, USAGE, DONE, b'data: {"usage":{', b"\n\n"])))
def test_any_bytes_are_read(pieces: list[bytes]) -> None:
    reader = read(*pieces)
    assert reader.error is None or isinstance(reader.error, str)
