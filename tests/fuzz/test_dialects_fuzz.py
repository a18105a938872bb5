"""Any stream in any dialect, cut anywhere: the same events, the same bytes onwards, or an error of ours."""

from __future__ import annotations

import contextlib
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.api import schemas
from app.errors import ApiError
from backends.errors import BackendError
from backends.types import Event
from tests.contract.test_dialects import NAMES, SHAPES, dialect_of, request_of
from tests.frames import framed
from tests.upstreams import delta, sse, usage_chunk

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
KEYS = st.sampled_from(
    "type message usage delta content_block index text thinking signature partial_json input id name stop_reason "
    "stop_sequence input_tokens output_tokens cache_read_input_tokens error content choices model x_groq finish_reason "
    "tool_calls function arguments messageStop contentBlockDelta contentBlockStart toolUse metadata".split()
)
TYPES = st.sampled_from(
    "message_start content_block_start content_block_delta content_block_stop message_delta message_stop ping error "
    "text tool_use thinking text_delta input_json_delta thinking_delta signature_delta".split()
)
VALUES = st.recursive(
    SCALARS | TYPES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


def events_of(name: str, stream: bytes, cuts: list[int], model: str = "up") -> list[Event]:
    dialect = dialect_of(name)
    answers, frames = dialect.answers(request_of(name), model), dialect.frames()
    answers.sent = True
    events: list[Event] = []
    edges = [0, *sorted(cuts), len(stream)]
    for start, end in pairwise(edges):
        for frame in frames.feed(stream[start:end]):
            if not answers.done:
                events += answers.chunk(frame)
    answers.end()
    return events


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_cut_anywhere_says_the_same(name: str) -> None:
    stream = framed(name, SHAPES[name]["stream"])
    whole = events_of(name, stream, [])
    for at in range(len(stream)):
        assert events_of(name, stream, [at]) == whole
    assert events_of(name, stream, list(range(len(stream)))) == whole


def shaken(value: Any) -> st.SearchStrategy[Any]:
    """A frame with one of its values, at any depth, replaced by another."""
    if not isinstance(value, dict) or not value:
        return VALUES
    return st.sampled_from(sorted(value)).flatmap(
        lambda key: (shaken(value[key]) | VALUES).map(lambda other: {**value, key: other})
    )


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(deadline=None, max_examples=200)
def test_any_frames_end_in_events_or_an_error_of_ours(name: str, data: st.DataObject) -> None:
    frames: list[Any] = list(SHAPES[name]["stream"])
    place = data.draw(st.integers(0, len(frames) - 1))
    frames[place] = data.draw(shaken(frames[place]) | VALUES)
    try:
        stream = framed(name, frames)
    except (TypeError, ValueError, AttributeError):
        return  # what this dialect's framing has no place for
    with contextlib.suppress(BackendError):
        events_of(name, stream, [])


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_any_answer_in_one_piece_and_any_refusal(name: str, data: st.DataObject) -> None:
    body = data.draw(shaken(SHAPES[name]["whole"]) | VALUES)
    dialect = dialect_of(name)
    answers = dialect.answers(request_of(name, stream=False), "up")
    answers.sent = True
    text = json.dumps(body).encode()
    with contextlib.suppress(BackendError):
        answers.whole(text)
    usage = answers.usage()
    assert min(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, usage.reasoning_tokens) >= 0
    assert str(dialect.refusal(422, {}, text, 0.0))


ASKED: dict[str, Any] = {
    "model": "public",
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "be brief"}]},
        {"role": "user", "content": [
            {"type": "text", "text": "look"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}}]},
        {"role": "assistant", "content": None, "reasoning_content": "so", "reasoning_signature": "sig",
         "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]},
        {"role": "tool", "tool_call_id": "t1", "content": "rain"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    "parallel_tool_calls": False,
    "reasoning_effort": "high",
    "metadata": {"user_id": "u"},
    "stop": ["x"],
    "logprobs": False,
}  # fmt: skip
OTHERS = SCALARS | st.sampled_from([[], {}, [7], ["x"], {"x": 7}, "[1]", "{", "data:x", "none"])


def changed(value: Any) -> st.SearchStrategy[Any]:
    """A value of which one part, at any depth, is another, or gone."""
    if isinstance(value, list) and value:
        return st.integers(0, len(value) - 1).flatmap(
            lambda at: (changed(value[at]) | OTHERS).map(lambda new: [*value[:at], new, *value[at + 1 :]])
        )
    if not isinstance(value, dict) or not value:
        return OTHERS
    gone = st.sampled_from(sorted(value)).map(lambda key: {name: value[name] for name in value if name != key})
    return gone | st.sampled_from(sorted(value)).flatmap(
        lambda key: (changed(value[key]) | OTHERS).map(lambda new: {**value, key: new})
    )


@pytest.mark.parametrize("name", NAMES)
@given(body=changed(ASKED))
@settings(deadline=None, max_examples=200)
def test_whatever_the_gateway_lets_in_goes_out_or_is_refused(name: str, body: dict[str, Any]) -> None:
    text = json.dumps(body).encode()
    try:
        schemas.decode_chat(text)
    except ApiError:
        return
    with contextlib.suppress(BackendError):
        sent = dialect_of(name).outgoing(request_of(name)._replace(body=text), "up", 1.7e9)
        assert isinstance(json.loads(sent.body), dict)


RECORDED = (
    sse(delta("", role="assistant"), done=False)
    + b'data: {"id":"up-1","choices":[{"index":0,"delta":{"content":"\xf0\x9f\x9a\x82 \xc3\xa9"}}]}\n\n'
    + b'data: { "id" : "up-1", "x" : 1.50,\t"choices" : [{"index":0,"delta":{"content":"b"}}] }\n\n'
    + sse(delta(finish="stop"), done=False)
)


def test_what_is_relayed_is_byte_for_byte_what_came_under_every_split() -> None:
    """Multi-byte characters, white space and numbers as they were written; one cut at every place, and all of them."""
    stream = RECORDED + sse(usage_chunk(3, 2))
    for cuts in [*([at] for at in range(len(stream))), list(range(len(stream)))]:
        raw = b"".join(event.raw or b"" for event in events_of("openai", stream, cuts, model="public"))
        assert raw == RECORDED


@given(cuts=st.lists(st.integers(0, 900), max_size=12), ends=st.sampled_from([b"\n", b"\r\n", b"\r"]))
@settings(deadline=None, max_examples=150)
def test_comments_ids_and_line_ends_survive(cuts: list[int], ends: bytes) -> None:
    """All that comes before the last end is passed on as it came; what a service says of usage is not."""
    commented = b": keep-alive\n\n" + RECORDED.replace(b"data: {", b": \xc3\xa9\nid: 7\nretry: 5\ndata: {")
    commented = commented.replace(b"\n", ends)
    stream = commented + sse(usage_chunk(3, 2)).replace(b"\n", ends)
    events = events_of("openai", stream, [cut for cut in cuts if cut < len(stream)], model="public")
    raw = b"".join(event.raw or b"" for event in events)
    # A cut in the last CRLF leaves its line feed to what follows.
    assert raw in (commented, commented.removesuffix(b"\n"))


@given(ends=st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_a_chunk_that_is_renamed_keeps_what_stood_around_it(ends: bytes) -> None:
    stream = b": before\n\nid: 1\n" + RECORDED + sse(usage_chunk(3, 2))
    events = events_of("openai", stream.replace(b"\n", ends), [], model="theirs")
    raw = b"".join(event.raw or b"" for event in events)
    assert raw == (b": before\n\nid: 1\n" + RECORDED.replace(b"upstream-m", b"public")).replace(b"\n", ends)
