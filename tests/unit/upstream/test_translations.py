"""A chat as other wires say it: Anthropic's blocks, and Converse's made of those."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backends.errors import BackendConfigError, RequestRefused, Unsupported
from backends.types import ChoiceEnd, GenerationRequest, Thought, TokenChunk, ToolCallPart
from backends.upstream.dialects.anthropic_out import messages_body
from backends.upstream.dialects.base import Aws, Service
from backends.upstream.dialects.bedrock import Bedrock, converse

FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}}
CHAT: dict[str, Any] = {
    "model": "public",
    "messages": [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "look"},
                                     {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
        {"role": "assistant", "content": "hm", "reasoning_content": "so", "reasoning_signature": "sig",
         "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]},
        {"role": "tool", "tool_call_id": "t1", "content": "rain"},
        {"role": "user", "content": "and?"},
    ],
    "tools": [{"type": "function", "function": FUNCTION}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "stop": "x",
    "user": "u",
    "seed": 5,
    "temperature": 0.5,
    "reasoning_effort": "high",
    "unknown": {"a": None},
}  # fmt: skip


def test_as_messages() -> None:
    assert messages_body(CHAT, "up", 9) == {
        "model": "up",
        "max_tokens": 9,
        "system": "be brief",
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "look"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "so", "signature": "sig"},
                {"type": "text", "text": "hm"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "rain"}]},
                {"type": "text", "text": "and?"}]},
        ],
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        "stop_sequences": ["x"],
        "metadata": {"user_id": "u"},
        "temperature": 0.5,
        "output_config": {"effort": "high"},
        "unknown": {"a": None},
    }  # fmt: skip


def test_as_converse() -> None:
    plain = {name: value for name, value in CHAT.items() if name != "reasoning_effort"}
    body = converse(messages_body(plain, "up", 9))
    assert body["messages"] == [
        {"role": "user", "content": [{"text": "look"}, {"image": {"format": "png", "source": {"bytes": "AAAA"}}}]},
        {"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": "so", "signature": "sig"}}},
            {"text": "hm"},
            {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"a": 1}}}]},
        {"role": "user", "content": [
            {"toolResult": {"toolUseId": "t1", "content": [{"text": "rain"}]}}, {"text": "and?"}]},
    ]  # fmt: skip
    assert body["inferenceConfig"] == {"maxTokens": 9, "temperature": 0.5, "stopSequences": ["x"]}
    assert body["toolConfig"] == {
        "tools": [{"toolSpec": {"name": "f", "description": "d", "inputSchema": {"json": {"type": "object"}}}}],
        "toolChoice": {"tool": {"name": "f"}},
    }
    assert body["additionalModelRequestFields"] == {"unknown": {"a": None}}
    assert "toolConfig" not in converse(messages_body({**plain, "tool_choice": "none"}, "up", 9))


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"n": 2}, Unsupported, "n"),
        ({"logprobs": True}, Unsupported, "logprobs"),
        ({"response_format": {"type": "json_object"}}, Unsupported, "response_format"),
        ({"tools": [{"type": "custom"}]}, Unsupported, "tools[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, Unsupported, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]},
         RequestRefused, "messages[0].content[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
         RequestRefused, "messages[0].tool_calls[0].function.arguments"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}]},
         RequestRefused, "messages[0].tool_calls[0].function.arguments"),
        ({"messages": [{"role": "assistant", "tool_calls": [7]}]}, RequestRefused, "messages[0].tool_calls[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "https://x/y.png"}]}]},
         RequestRefused, "messages[0].content[0].image_url"),
        ({"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]}]},
         Unsupported, "messages[0].content[0]"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, Unsupported, "messages[0].role"),
        ({"tools": ["f"]}, RequestRefused, "tools[0]"),
        ({"tools": [{"type": "function"}]}, RequestRefused, "tools[0].function.name"),
        ({"tool_choice": {"type": "function", "function": "f"}}, RequestRefused, "tool_choice.function"),
        ({"reasoning_effort": ["high"]}, RequestRefused, "reasoning_effort"),
        ({"response_format": {"type": "json_schema", "json_schema": "x"}}, RequestRefused,
         "response_format.json_schema"),
        ({"modalities": ["text", "audio"]}, Unsupported, "modalities"),
    ],
)  # fmt: skip
def test_what_there_are_no_words_for_is_named(fields: dict[str, Any], error: type[Exception], param: str) -> None:
    with pytest.raises(error) as raised:
        messages_body({**CHAT, **fields}, "up", None)
    assert getattr(raised.value, "param") == param  # noqa: B009 - of either class


@pytest.mark.parametrize(
    ("fields", "goes_on"),
    [
        ({"logprobs": False, "top_logprobs": 0, "functions": [], "modalities": ["text"], "n": 1}, {}),
        ({"metadata": {"team": "a"}}, {}),
        ({"metadata": {"team": "a", "user_id": "u"}}, {"metadata": {"user_id": "u"}}),
        ({"response_format": {"type": "text"}, "tool_choice": "auto", "reasoning_effort": "none"}, {}),
    ],
)
def test_what_asks_for_nothing_is_no_reason_to_refuse(fields: dict[str, Any], goes_on: dict[str, Any]) -> None:
    asked = {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "hi"}]}]}
    assert messages_body({**asked, **fields}, "up", 9) == {
        "model": "up",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        **goes_on,
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}]},
    ],
)
def test_what_converse_has_no_words_for(fields: dict[str, Any]) -> None:
    with pytest.raises(Unsupported):
        converse(messages_body({**CHAT, **fields}, "up", None))


def test_a_call_and_a_thought_of_converse_are_events() -> None:
    service = Service("up", "https://bedrock-runtime.eu-west-1.amazonaws.com", aws=Aws(None, "AK", "SK"))
    answers = Bedrock(service).answers(GenerationRequest("r", "chat", "m", ("hi",), stream=True), "up")
    frames = [
        {"contentBlockDelta": {"delta": {"reasoningContent": {"text": "so"}}}},
        {"contentBlockDelta": {"delta": {"reasoningContent": {"signature": "sig"}}}},
        {"contentBlockStart": {"start": {"toolUse": {"toolUseId": "t1", "name": "f"}}}},
        {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"a":'}}}},
        {"contentBlockDelta": {"delta": {"toolUse": {"input": "1}"}}}},
        {"messageStop": {"stopReason": "tool_use"}},
    ]
    tool = ToolCallPart(0, "t1", "f")
    assert [event for frame in frames for event in answers.chunk(json.dumps(frame).encode())] == [
        TokenChunk(0, "so", 1, None, False, None, Thought()),
        TokenChunk(0, "", 1, None, False, None, Thought("sig")),
        TokenChunk(0, "", 1, None, False, tool),
        TokenChunk(0, '{"a":', 1, None, False, tool),
        TokenChunk(0, "1}", 1, None, False, tool),
        ChoiceEnd(0, "tool_calls"),
    ]
    answers.end()


def test_a_document_of_converse_has_a_name_that_it_takes() -> None:
    file = {"filename": "Q3_report/final.v2.pdf", "file_data": "data:application/pdf;base64,AAAA"}
    chat = {"messages": [{"role": "user", "content": [{"type": "file", "file": file}]}]}
    assert converse(messages_body(chat, "up", 9))["messages"][0]["content"] == [
        {"document": {"format": "pdf", "name": "Q3-report-final-v2", "source": {"bytes": "AAAA"}}}
    ]


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("bedrock-runtime.us-east-1.amazonaws.com", "us-east-1"),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("vpce-0a1b-2c.bedrock-runtime.eu-central-1.vpce.amazonaws.com", "eu-central-1"),
        ("bedrock-runtime.cn-north-1.amazonaws.com.cn", "cn-north-1"),
    ],
)
def test_the_region_stands_in_the_address(host: str, region: str) -> None:
    service = Service("up", f"https://{host}", aws=Aws(None, "AK", "SK"))
    sent = Bedrock(service).outgoing(GenerationRequest("r", "chat", "m", ("hi",)), "a", 0.0)
    assert f"/{region}/bedrock/aws4_request" in sent.headers["authorization"]


def test_without_a_region_it_is_asked_for() -> None:
    with pytest.raises(BackendConfigError, match="region"):
        Bedrock(Service("up", "https://gateway.internal", aws=Aws(None, "AK", "SK")))


def test_an_api_key_takes_the_place_of_a_signature() -> None:
    service = Service("up", "https://elsewhere", api_key="k")
    asked = Bedrock(service).outgoing(GenerationRequest("r", "chat", "m", ("hi",)), "a/b:0", 0.0)
    assert (asked.url, asked.headers["authorization"]) == ("https://elsewhere/model/a%2Fb%3A0/converse", "Bearer k")
