"""The official `anthropic` client against a real gateway process on its shipped configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.gateways import Addresses, serving

HELLO = [{"role": "user", "content": "say hello to the turnout"}]
MODEL = "llama-3.1-8b"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    with serving(tmp_path_factory.mktemp("gateway")) as addresses:
        yield addresses


@pytest.fixture(scope="module")
def client(gateway: Addresses) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=gateway.url, api_key="anything", max_retries=0, timeout=30) as client:
        yield client


def test_message(client: Any) -> None:
    answer = client.messages.create(model=MODEL, messages=HELLO, max_tokens=12, system="be brief")
    assert (answer.type, answer.role, answer.model, answer.stop_reason) == ("message", "assistant", MODEL, "max_tokens")
    assert len(answer.content[0].text.split()) == 12
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (7, 12)
    assert answer.usage.cost > 0
    assert answer.id.startswith("msg_")
    assert answer._request_id.startswith("req-")


def test_stream_gathers_into_the_message_that_a_whole_answer_is(client: Any) -> None:
    fields = {"model": MODEL, "messages": HELLO, "max_tokens": 12, "extra_headers": {"x-turnout-cache": "off"}}
    whole = client.messages.create(**fields)
    with client.messages.stream(**fields) as stream:
        texts = list(stream.text_stream)
        streamed = stream.get_final_message()
    assert len(texts) > 1
    assert "".join(texts) == streamed.content[0].text == whole.content[0].text
    assert (streamed.stop_reason, streamed.usage.output_tokens) == ("max_tokens", 12)
    assert streamed.usage.input_tokens + (streamed.usage.cache_read_input_tokens or 0) == 5


def test_the_stop_sequence_that_ended_it_is_named(client: Any) -> None:
    whole = client.messages.create(model=MODEL, messages=HELLO, max_tokens=200)
    word = whole.content[0].text.split()[5]
    fields = {"model": MODEL, "messages": HELLO, "max_tokens": 200, "stop_sequences": ["no such words", word]}
    stopped = client.messages.create(**fields)
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", word)
    assert whole.content[0].text.startswith(stopped.content[0].text)
    with client.messages.stream(**fields) as stream:
        assert stream.get_final_message().stop_sequence == word


def test_the_order_of_a_streams_events(client: Any) -> None:
    with client.messages.create(model=MODEL, messages=HELLO, max_tokens=3, stream=True) as stream:
        kinds = [event.type for event in stream]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_blocks_of_every_kind_are_understood(client: Any) -> None:
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "one two", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"},
                                          {"type": "text", "text": "three"},
                                          {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "four"},
                                     {"type": "text", "text": "five"}]},
    ]  # fmt: skip
    answer = client.messages.create(model=MODEL, messages=turns, max_tokens=4)
    usage = answer.usage
    assert usage.input_tokens + usage.cache_read_input_tokens == 6, "a word each, and the call one"


def test_count_tokens(client: Any) -> None:
    assert client.messages.count_tokens(model=MODEL, messages=HELLO).input_tokens > 0


def test_models(client: Any) -> None:
    listed = list(client.models.list())
    assert MODEL in [model.id for model in listed]
    assert client.models.retrieve(MODEL).display_name


def refused(client: Any, error: type[Exception], **fields: Any) -> Any:
    asked = {"model": MODEL, "messages": HELLO, "max_tokens": 4, **fields}
    with pytest.raises(error) as raised:
        client.messages.create(**asked)
    body: Any = raised.value.body  # type: ignore[attr-defined]
    assert body["type"] == "error"
    return body["error"]


def test_errors_are_anthropics(client: Any) -> None:
    error = refused(client, anthropic.NotFoundError, model="no-such-model")
    assert (error["type"], error["code"]) == ("not_found_error", "model_not_found")
    error = refused(client, anthropic.BadRequestError, messages=[])
    assert (error["type"], error["param"]) == ("invalid_request_error", "messages")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"extra_body": {"temperature": 1.5}}, "temperature"),
        ({"messages": [{"role": "user", "content": [{"type": "server_tool_use", "id": "x"}]}]},
         "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]}]},
         "messages[0].content[0]"),
        ({"extra_body": {"mcp_servers": [{"url": "x"}]}}, "mcp_servers"),
        ({"extra_body": {"max_tokens": None}}, "max_tokens"),
        ({"extra_body": {"n": 3}}, "n"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(client: Any, fields: dict[str, Any], param: str) -> None:
    assert refused(client, anthropic.BadRequestError, **fields)["param"] == param
