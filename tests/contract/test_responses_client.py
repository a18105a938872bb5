"""`client.responses` of the official `openai` client against a real gateway process on its shipped configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.gateways import Addresses, serving

HELLO = "say hello to the turnout"
MODEL = "llama-3.1-8b"
FRESH = {"x-turnout-cache": "off"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    with serving(tmp_path_factory.mktemp("gateway")) as addresses:
        yield addresses


@pytest.fixture(scope="module")
def client(gateway: Addresses) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="anything", max_retries=0, timeout=30) as client:
        yield client


def test_response(client: Any) -> None:
    answer = client.responses.create(model=MODEL, input=HELLO, instructions="be brief", max_output_tokens=12)
    assert (answer.object, answer.status, answer.model) == ("response", "incomplete", MODEL)
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert len(answer.output_text.split()) == 12
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (7, 12, 19)
    assert answer.usage.cost > 0
    assert (answer.instructions, answer.max_output_tokens, answer.store) == ("be brief", 12, False)


def test_a_streams_events_tell_what_the_whole_response_is(client: Any) -> None:
    fields = {"model": MODEL, "input": HELLO, "max_output_tokens": 12, "extra_headers": FRESH}
    whole = client.responses.create(**fields)
    events = list(client.responses.create(**fields, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
    ]  # fmt: skip
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.incomplete",
    ]  # fmt: skip
    text = "".join(event.delta for event in events[4:-4])
    assert text == events[-4].text == events[-1].response.output_text == whole.output_text
    assert events[-1].response.usage.output_tokens == 12


def test_the_clients_own_stream_helper(client: Any) -> None:
    with client.responses.stream(model=MODEL, input=HELLO, max_output_tokens=5) as stream:
        final = [event for event in stream][-1]  # noqa: C416 - the helper is an iterator with a memory
    assert len(final.response.output_text.split()) == 5


def test_items_are_understood(client: Any) -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "one two"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "three"},
        {"type": "message", "role": "user", "content": "four"},
    ]
    answer = client.responses.create(model=MODEL, input=items, max_output_tokens=4, store=True, extra_headers=FRESH)
    assert answer.usage.input_tokens == 5, "a word each, and the call one"


def test_input_tokens(client: Any) -> None:
    assert client.responses.input_tokens.count(model=MODEL, input=HELLO).input_tokens > 0


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "name": "", "parameters": {}, "strict": True}]}, "tools[0].name"),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"input": []}, "input"),
        ({"input": [{"type": "reasoning", "id": "r", "summary": []}]}, "input"),
        ({"extra_body": {"n": 2}}, "n"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "nobody", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input[0].content[0]"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(client: Any, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(**{"model": MODEL, "input": HELLO, **fields})
    assert raised.value.param == param


def test_an_unknown_model(client: Any) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.responses.create(model="nope", input=HELLO)
    assert raised.value.code == "model_not_found"
