"""What is written of a stream, made here or passed on."""

from __future__ import annotations

import json
from typing import Any

from app.api import openai_wire
from app.api.wires.base import Bill
from app.api.wires.openai_stream import StreamWriter
from backends.types import ChoiceEnd, Event, Thought, TokenChunk, Usage
from tests.upstreams import delta, sse

BILL = Bill(Usage(1), None, None)
USAGE = openai_wire.usage_block(*BILL)
EXTRA = {"turnout": {"attempts": 1}}


def written(events: list[Event], extra: dict[str, Any] | None = None, *, usage: bool = False) -> list[dict[str, Any]]:
    writer = StreamWriter("chat", "ours-1", 3, "m", include_usage=usage)
    text = b"".join(writer.event(event) for event in events) + writer.end(BILL, extra)
    frames = text.decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    return [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]


def raw(chunk: dict[str, Any]) -> bytes:
    return sse(chunk, done=False)


RELAYED: list[Event] = [TokenChunk(0, "a", 1, raw(delta("a"))), ChoiceEnd(0, "stop", raw(delta(finish="stop")))]


def test_what_came_is_passed_on_and_our_usage_looks_like_it() -> None:
    chunks = written(RELAYED, usage=True)
    assert chunks[:2] == [delta("a"), delta(finish="stop")]
    assert (chunks[2]["id"], chunks[2]["created"], chunks[2]["usage"]) == ("up-1", 7, USAGE)


def test_unasked_usage_is_not_written_and_the_receipt_goes_with_the_last_chunk() -> None:
    assert written(RELAYED) == [delta("a"), delta(finish="stop")]
    assert written(RELAYED, EXTRA)[-1] == {**delta(finish="stop"), **EXTRA}


def test_the_receipt_of_an_end_that_went_with_text_has_a_chunk_of_its_own() -> None:
    last = written([TokenChunk(0, "a", 1, raw(delta("a", finish="stop"))), ChoiceEnd(0, "stop", b"")], EXTRA)[-1]
    assert (last["choices"], last["turnout"], last["id"]) == ([], EXTRA["turnout"], "up-1")


def test_what_nobody_sent_is_made() -> None:
    chunks = written([TokenChunk(0, "a", 1), ChoiceEnd(0, "length")], EXTRA)
    assert [chunk["choices"][0]["delta"] for chunk in chunks][1:] == [{"content": "a"}, {}]
    assert (chunks[-1]["id"], chunks[-1]["turnout"]) == ("ours-1", EXTRA["turnout"])


def test_an_answer_in_one_piece_keeps_every_field() -> None:
    body = json.dumps({"id": "up-1", "model": "x", "choices": [{"a": 1.50}], "usage": None, "new": {"b": []}}).encode()
    assert json.loads(openai_wire.passed_on(body, "m", USAGE, EXTRA)) == {
        "id": "up-1", "model": "m", "choices": [{"a": 1.5}], "usage": USAGE, "new": {"b": []}, **EXTRA,
    }  # fmt: skip
    assert b'{"a": 1.5}' in openai_wire.passed_on(body, "m", USAGE)
    timed = b'{"usage":{"queue_time":0.05,"prompt_tokens":9}}'
    assert json.loads(openai_wire.passed_on(timed, "m", USAGE))["usage"] == {"queue_time": 0.05, **USAGE}


def test_a_stream_without_identity_keeps_ours() -> None:
    assert openai_wire.identity(b"data: {}\n\n") is None
    assert openai_wire.identity(b"data: nonsense\n\n") is None
    assert openai_wire.identity(b": comment") is None


def test_extra_keys_go_into_the_last_frame_whatever_its_text_says() -> None:
    first = b'data: {"id":"a","choices":[]}\n\n'
    frames = first + b'data: {"choices":[{"stop_reason":"data: ","text":"x\\n\\ndata: y"}]}\n\n'
    told = openai_wire.with_extra(frames, {"turnout": {"cache": "off"}})
    assert told.startswith(first)
    assert json.loads(told[len(first) :].removeprefix(b"data: ")) == {
        "choices": [{"stop_reason": "data: ", "text": "x\n\ndata: y"}],
        "turnout": {"cache": "off"},
    }
    assert json.loads(openai_wire.with_extra(first, {"k": 1}).removeprefix(b"data: ")) == {
        "id": "a",
        "choices": [],
        "k": 1,
    }


def test_reasoning_that_came_without_frames_is_written_as_vllm_does() -> None:
    events: list[Event] = [
        TokenChunk(0, "hm", 1, None, False, None, Thought()),
        TokenChunk(0, "", 1, None, False, None, Thought("sig")),
        TokenChunk(0, "a", 1),
        ChoiceEnd(0, "stop"),
    ]
    deltas = [chunk["choices"][0]["delta"] for chunk in written(events)]
    assert deltas[1:] == [{"reasoning_content": "hm"}, {"reasoning_signature": "sig"}, {"content": "a"}, {}]
    gathered = openai_wire.Gathered(1)
    for event in events:
        gathered.add(event)
    message = gathered.message(0)
    assert (message["content"], message["reasoning_content"], message["reasoning_signature"]) == ("a", "hm", "sig")
