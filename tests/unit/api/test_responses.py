"""OpenAI's Responses: what a request becomes, and what is written of an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.api.wires import responses_in
from app.api.wires.base import Bill, Opening
from app.api.wires.responses_out import StreamWriter, WholeWriter
from app.errors import BadRequest, UpstreamFailed
from backends.types import ChoiceEnd, Event, TokenChunk, Usage
from tests.unit.api.test_messages import RELAYED, raw
from tests.upstreams import delta

BILL = Bill(Usage(3, 2, 4, 1), None, None)
OPENING = Opening("1", 3, "m")


def chat(**fields: Any) -> dict[str, Any]:
    given = {"model": "m", "input": "hi", **fields}
    return responses_in.chat_fields(responses_in.decode_responses(json.dumps(given).encode()), given)


def test_fields_are_translated_and_unknown_ones_go_on() -> None:
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    assert chat(
        instructions="be brief",
        tools=[tool],
        tool_choice={"type": "function", "name": "f"},
        parallel_tool_calls=False,
        text={"format": schema, "verbosity": "low"},
        reasoning={"effort": "high", "summary": "auto"},
        max_output_tokens=9,
        prompt_cache_key="k",
        include=["reasoning.encrypted_content"],
        top_k=5,
    ) == {
        "model": "m",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
        },
        "verbosity": "low",
        "reasoning_effort": "high",
        "max_tokens": 9,
        "top_k": 5,
    }  # fmt: skip


def test_items_become_messages() -> None:
    items = [
        {"role": "developer", "content": "rules"},
        {"role": "user", "content": [{"type": "input_text", "text": "see"},
                                     {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"}]},
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a", "annotations": []}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "one"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "two"}]},
    ]  # fmt: skip
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    image = {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}}
    assert chat(input=items)["messages"] == [
        {"role": "developer", "content": "rules"},
        {"role": "user", "content": [{"type": "text", "text": "see"}, image]},
        {"role": "assistant", "content": "a", "reasoning_content": "hm", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": "two"},
    ]


def events_of(text: bytes) -> list[dict[str, Any]]:
    found = [json.loads(frame.split("\ndata: ")[1]) for frame in text.decode().split("\n\n")[:-1]]
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def streamed(events: list[Event]) -> list[dict[str, Any]]:
    writer = StreamWriter(OPENING, {"model": "m", "temperature": 0})
    return events_of(writer.begin() + b"".join(map(writer.event, events)) + writer.end(BILL, {"turnout": {}}))


def test_a_relayed_stream_becomes_items() -> None:
    events = streamed(RELAYED)
    last = events[-1]["response"]
    assert (events[-1]["type"], last["turnout"], last["temperature"]) == ("response.completed", {}, 0)
    assert (last["usage"]["input_tokens"], last["usage"]["input_tokens_details"]["cached_tokens"]) == (5, 2)
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert last["output"] == done
    assert [item["type"] for item in done] == ["reasoning", "message", "function_call", "function_call"]
    assert done[0]["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert done[1]["content"][0]["text"] == "a"
    assert [(item["call_id"], item["name"], item["arguments"]) for item in done[2:]] == [
        ("c0", "f", '{"x":1}'), ("c1", "g", "{}"),
    ]  # fmt: skip
    arguments = [event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta"]
    assert arguments == ['{"x"', ":1}", "{}"]
    for event in events:
        if "item_id" in event:
            assert event["item_id"] == done[event["output_index"]]["id"]


def test_a_refusal_is_a_message_of_its_own_kind() -> None:
    events = streamed([TokenChunk(0, "", 1, raw(delta(refusal="no")), False), ChoiceEnd(0, "stop")])
    assert events[-1]["response"]["output"][0]["content"] == [{"type": "refusal", "refusal": "no"}]


def test_an_answer_cut_short_is_incomplete() -> None:
    events = streamed([TokenChunk(0, "a", 1), ChoiceEnd(0, "length")])
    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert events[-1]["response"]["output"][0]["status"] == "incomplete"


def test_a_failure_midway_is_told_twice_for_readers_of_either() -> None:
    writer = StreamWriter(OPENING, {})
    failed, error = events_of(writer.failed(UpstreamFailed("it broke")))
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert (error["type"], error["message"], error["code"]) == ("error", "it broke", "upstream_failed")


def test_a_failure_midway_tells_what_had_been_said() -> None:
    writer = StreamWriter(OPENING, {})
    said = writer.event(TokenChunk(0, "so far", 1))
    (item,) = events_of(said + writer.failed(UpstreamFailed("it broke")))[-2]["response"]["output"]
    assert (item["status"], item["content"][0]["text"]) == ("incomplete", "so far")


@pytest.mark.parametrize(
    "unsaid", [{"background": False}, {"previous_response_id": None}, {"top_logprobs": 0}, {"prompt": {}}]
)
def test_what_is_not_supported_and_not_asked_for_is_left_out(unsaid: dict[str, Any]) -> None:
    assert chat(**unsaid) == {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("fields", "at"),
    [
        ({"tools": [{"type": "function", "name": "f" * 129}]}, "tools[0].name"),
        ({"tool_choice": {"type": "function", "name": "f" * 129}}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema", "name": "f" * 129, "schema": {}}}}, "text.format.name"),
        ({"text": {"format": {"type": "json_schema", "name": "", "schema": {}}}}, "text.format.name"),
    ],
)
def test_a_name_is_refused_where_the_client_wrote_it(fields: dict[str, Any], at: str) -> None:
    with pytest.raises(BadRequest) as raised:
        chat(**fields)
    assert raised.value.param is not None
    assert raised.value.param.startswith(at)


def test_thoughts_of_several_calls_are_kept_in_order() -> None:
    def thought(text: str) -> dict[str, Any]:
        return {"type": "reasoning", "content": [{"type": "reasoning_text", "text": text}]}

    def call(name: str) -> dict[str, Any]:
        return {"type": "function_call", "call_id": name, "name": name, "arguments": "{}"}

    (message,) = chat(input=[thought("a"), call("f"), thought("b"), call("g")])["messages"]
    assert message["reasoning_content"] == "ab"
    assert [each["id"] for each in message["tool_calls"]] == ["f", "g"]


def test_a_whole_answer() -> None:
    message = {
        "content": "a",
        "tool_calls": [{"id": "c0", "type": "function", "function": {"name": "f", "arguments": "{"}}],
    }
    body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}).encode()
    writer = WholeWriter(OPENING, {})
    for event in (TokenChunk(0, "a", 4, body, False), ChoiceEnd(0, "tool_calls", b"")):
        assert writer.event(event) == b""
    whole = json.loads(writer.end(BILL, None))
    assert (whole["id"], whole["status"], whole["usage"]["total_tokens"]) == ("resp_1", "completed", 10)
    assert [item["type"] for item in whole["output"]] == ["message", "function_call"]
    assert whole["output"][1]["arguments"] == "{"
