"""Anthropic's messages: what a request becomes, and what is written of an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.api.wires import messages_in
from app.api.wires.base import Arrival, Bill, Opening
from app.api.wires.messages import COUNT_TOKENS, MESSAGES
from app.api.wires.messages_out import StreamWriter, WholeWriter
from app.call import NO_OPTIONS
from app.errors import BadRequest, UpstreamFailed
from backends.types import ChoiceEnd, Event, TokenChunk, ToolCallPart, Usage
from tests.upstreams import delta, sse

BILL = Bill(Usage(3, 2, 4, 1), None, None)
OPENING = Opening("1", 3, "m")
HELLO = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


def chat(**fields: Any) -> dict[str, Any]:
    given = {**HELLO, **fields}
    return messages_in.chat_fields(messages_in.decode_messages(json.dumps(given).encode()), given)


def user(*blocks: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(blocks)}]


def test_fields_are_translated_and_unknown_ones_go_on() -> None:
    asked = chat(
        system=[{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}}],
        stop_sequences=["x"],
        metadata={"user_id": "u"},
        thinking={"type": "enabled", "budget_tokens": 4000},
        top_k=5,
        cache_control={"type": "ephemeral"},
        output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}},
    )
    assert asked == {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "system", "content": "a\nb"}, {"role": "user", "content": "hi"}],
        "stop": ["x"],
        "user": "u",
        "reasoning_effort": "medium",
        "top_k": 5,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
        },
    }


def test_a_conversation_with_tools() -> None:
    turns = [
        {"role": "user", "content": "weather?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "zz"},
                {"type": "text", "text": "let me see"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"city": "Rome"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "and?"},
                {"type": "tool_result", "tool_use_id": "t1", "content": "no data", "is_error": True},
            ],
        },
    ]
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"city":"Rome"}'}}
    assert chat(messages=turns)["messages"][1:] == [
        {
            "role": "assistant",
            "content": "let me see",
            "reasoning_content": "hm",
            "reasoning_signature": "s",
            "tool_calls": [call],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "Error: no data"},
        {"role": "user", "content": "and?"},
    ]


def test_images_and_documents_are_parts() -> None:
    said = chat(
        messages=user(
            {"type": "text", "text": "look"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
            {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
            {"type": "document", "title": "t.pdf",
             "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}},
        )
    )["messages"][0]["content"]  # fmt: skip
    assert said == [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        {"type": "file", "file": {"filename": "t.pdf", "file_data": "data:application/pdf;base64,BBBB"}},
        {"type": "text", "text": "plain"},
    ]


@pytest.mark.parametrize(
    ("choice", "fields"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any", "disable_parallel_tool_use": True}, {"tool_choice": "required", "parallel_tool_calls": False}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "tool", "name": "f"}, {"tool_choice": {"type": "function", "function": {"name": "f"}}}),
    ],
)
def test_tools_and_their_choice(choice: dict[str, Any], fields: dict[str, Any]) -> None:
    tool = {"name": "f", "description": "d", "input_schema": {"type": "object"}}
    asked = chat(tools=[tool], tool_choice=choice)
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    assert asked["tools"] == [{"type": "function", "function": function}]
    assert {name: asked[name] for name in fields} == fields


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"name": "f", "input_schema": {}}], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"messages": [{"role": "assistant", "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": ""}]}]}, "messages[0].content[0]"),
        ({"container": "c"}, "container"),
    ],
)  # fmt: skip
def test_what_cannot_be_translated_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as raised:
        chat(**fields)
    assert raised.value.param == param


def test_the_call_is_a_chat_and_counting_needs_no_limit() -> None:
    arrival = Arrival(json.dumps({**HELLO, "stream": True}).encode(), "r", 5, NO_OPTIONS)
    call = MESSAGES.read(arrival).call
    assert (call.endpoint, call.prompts, call.max_tokens, call.stream) == ("chat", ("hi",), 9, True)
    unlimited = json.dumps({name: HELLO[name] for name in ("model", "messages")}).encode()
    assert COUNT_TOKENS.read(arrival._replace(body=unlimited)).call.prompts == ("hi",)


# What is written.


def events_of(text: bytes) -> list[dict[str, Any]]:
    frames = text.decode().split("\n\n")
    assert frames.pop() == ""
    found = []
    for frame in frames:
        name, data = frame.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def streamed(events: list[Event]) -> list[dict[str, Any]]:
    writer = StreamWriter(OPENING, "r-1")
    text = writer.begin() + b"".join(map(writer.event, events)) + writer.end(BILL, {"turnout": {}})
    return events_of(text)


def raw(chunk: dict[str, Any]) -> bytes:
    return sse(chunk, done=False)


def call_chunk(place: int, arguments: str, **fields: Any) -> dict[str, Any]:
    return delta(tool_calls=[{"index": place, "function": {"arguments": arguments, **fields}, "id": f"c{place}"}])


RELAYED: list[Event] = [
    TokenChunk(0, "", 1, raw(delta(role="assistant")) + raw(delta(reasoning_content="hm")), plain=False),
    TokenChunk(0, "", 1, raw(delta(reasoning_signature="sig")), plain=False),
    TokenChunk(0, "a", 1, raw(delta("a"))),
    TokenChunk(0, "", 1, raw(call_chunk(0, '{"x"', name="f")), plain=False),
    TokenChunk(0, "", 1, raw(call_chunk(0, ":1}")), plain=False),
    TokenChunk(0, "", 1, raw(call_chunk(1, "{}", name="g")), plain=False),
    ChoiceEnd(0, "tool_calls", raw(delta(finish="tool_calls"))),
]


def test_a_relayed_stream_becomes_blocks() -> None:
    events = streamed(RELAYED)
    assert [event["type"] for event in events[:2]] == ["message_start", "ping"]
    blocks: list[dict[str, Any]] = []
    for event in events[2:-2]:
        if event["type"] == "content_block_start":
            assert event["index"] == len(blocks)
            blocks.append({**event["content_block"], "said": []})
        elif event["type"] == "content_block_delta":
            delta_of = event["delta"]
            blocks[event["index"]]["said"].append(next(value for key, value in delta_of.items() if key != "type"))
        else:
            assert (event["type"], event["index"]) == ("content_block_stop", len(blocks) - 1)
    assert [(block["type"], block["said"]) for block in blocks] == [
        ("thinking", ["hm", "sig"]),
        ("text", ["a"]),
        ("tool_use", ['{"x"', ":1}"]),
        ("tool_use", ["{}"]),
    ]
    assert [(block.get("id"), block.get("name")) for block in blocks[2:]] == [("c0", "f"), ("c1", "g")]
    last = events[-2]
    assert (last["delta"]["stop_reason"], last["turnout"]) == ("tool_use", {})
    assert (last["usage"]["input_tokens"], last["usage"]["cache_read_input_tokens"]) == (3, 2)
    assert (last["usage"]["output_tokens"], last["usage"]["cost"]) == (5, None)
    assert events[-1]["type"] == "message_stop"


def test_an_emulated_call_is_a_block_too() -> None:
    tool = ToolCallPart(0, "call-1", "f")
    events = streamed([TokenChunk(0, '{"x":1}', 1, None, False, tool), ChoiceEnd(0, "tool_calls")])
    assert events[2]["content_block"] == {"type": "tool_use", "id": "call-1", "name": "f", "input": {}}
    assert events[3]["delta"] == {"type": "input_json_delta", "partial_json": '{"x":1}'}


def test_an_answer_without_a_word_has_no_block() -> None:
    assert [event["type"] for event in streamed([ChoiceEnd(0, "stop")])] == [
        "message_start", "ping", "message_delta", "message_stop",
    ]  # fmt: skip


def test_a_call_that_goes_on_after_its_end_is_a_failure() -> None:
    writer = StreamWriter(OPENING, "r-1")
    writer.event(TokenChunk(0, "", 1, raw(call_chunk(0, "{", name="f")), plain=False))
    writer.event(TokenChunk(0, "", 1, raw(call_chunk(1, "{", name="g")), plain=False))
    with pytest.raises(UpstreamFailed):
        writer.event(TokenChunk(0, "", 1, raw(call_chunk(0, "}")), plain=False))


def test_a_failure_midway_is_an_error_event() -> None:
    (event,) = events_of(StreamWriter(OPENING, "r-1").failed(UpstreamFailed("it broke")))
    assert (event["type"], event["error"]["type"], event["error"]["message"]) == ("error", "api_error", "it broke")
    assert event["request_id"] == "r-1"


def test_a_whole_answer() -> None:
    message = {
        "role": "assistant",
        "content": "a",
        "reasoning": "hm",
        "tool_calls": [
            {"id": "c0", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"id": "c1", "type": "function", "function": {"name": "g", "arguments": '{"cut'}},
        ],
    }
    body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
    writer = WholeWriter(OPENING)
    for event in (TokenChunk(0, "a", 4, body, False), ChoiceEnd(0, "stop", b"")):
        assert writer.event(event) == b""
    whole = json.loads(writer.end(BILL, None))
    assert (whole["id"], whole["model"], whole["stop_reason"]) == ("msg_1", "m", "tool_use")
    assert whole["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "a"},
        {"type": "tool_use", "id": "c0", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "c1", "name": "g", "input": {"_unparsed": '{"cut'}},
    ]
