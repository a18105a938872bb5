"""Tools and JSON schemas through the official Python clients, and LangChain's, against a real gateway process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

from tests.gateways import Addresses, serving

MODEL = "llama-3.1-8b"
ASK: Any = [{"role": "user", "content": "what is the weather in the north?"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOL: Any = {"type": "function", "function": {"name": "forecast", "description": "d", "parameters": SCHEMA}}
OTHER: Any = {"type": "function", "function": {"name": "now"}}


class Trip(BaseModel):
    """What `parse` makes a schema of."""

    city: str
    days: int = Field(ge=1, le=5)
    stops: list[str]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    with serving(tmp_path_factory.mktemp("gateway")) as addresses:
        yield addresses


@pytest.fixture(scope="module")
def client(gateway: Addresses) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="anything", max_retries=0, timeout=30) as client:
        yield client


def fits(arguments: Any) -> bool:
    given = json.loads(arguments) if isinstance(arguments, str) else arguments
    return set(given) == {"city", "days"} and isinstance(given["city"], str) and given["days"] in range(1, 6)


def test_a_call_whole_and_streamed(client: Any) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=ASK, tools=[TOOL])
    choice = whole.choices[0]
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, choice.message.content, call.function.name) == ("tool_calls", None, "forecast")
    assert fits(call.function.arguments)
    assert whole.usage is not None
    assert whole.usage.completion_tokens == len(call.function.arguments.split())
    with client.chat.completions.stream(model=MODEL, messages=ASK, tools=[TOOL]) as stream:
        streamed = stream.get_final_completion().choices[0]
    assert streamed.message.tool_calls is not None
    again = streamed.message.tool_calls[0]
    assert (again.id, again.function.arguments) == (call.id, call.function.arguments)
    assert streamed.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("none", None),
        ("required", {"forecast", "now"}),
        ({"type": "function", "function": {"name": "now"}}, {"now"}),
        ("auto", {"forecast", "now"}),
    ],
)
def test_tool_choice(client: Any, choice: Any, called: set[str] | None) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=ASK, tools=[TOOL, OTHER], tool_choice=choice)
    calls = answer.choices[0].message.tool_calls
    if called is None:
        assert not calls
        assert answer.choices[0].message.content
    else:
        assert calls
        assert calls[0].function.name in called


def test_an_agents_loop_ends(client: Any) -> None:
    first = client.chat.completions.create(model=MODEL, messages=ASK, tools=[TOOL]).choices[0].message
    assert first.tool_calls
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "rain"}
    second = client.chat.completions.create(
        model=MODEL, messages=[*ASK, first.model_dump(exclude_none=True), result], tools=[TOOL]
    )
    assert (second.choices[0].finish_reason, second.choices[0].message.tool_calls) == ("stop", None)


def test_a_limit_cuts_a_call_and_says_so(client: Any) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=ASK, tools=[TOOL], max_tokens=2)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2


def test_a_pydantic_model_is_answered(client: Any) -> None:
    answer = client.chat.completions.parse(model=MODEL, messages=ASK, response_format=Trip, n=2)
    trips = [choice.message.parsed for choice in answer.choices]
    assert all(isinstance(trip, Trip) for trip in trips)
    assert trips[0] != trips[1]


def test_any_json_object(client: Any) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=ASK, response_format={"type": "json_object"})
    assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [TOOL, {"type": "function", "function": {"description": "x"}}]}, "tools[1].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": "x"}}]},
         "tools[0].function.parameters"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "objekt"}}}]},
         "tools[0].function.parameters.type"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {
            "properties": {"a": {"type": "string", "pattern": "a(?=b)"}}, "required": ["a"]}}}},
         "response_format.json_schema.schema.properties.a.pattern"),
        ({"functions": [{"name": "f"}]}, "functions"),
    ],
)  # fmt: skip
def test_schemas_that_are_none_are_refused_by_name(client: Any, fields: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**{"model": MODEL, "messages": ASK, **fields})
    assert raised.value.param == param


def test_tools_of_anthropics_client(gateway: Addresses) -> None:
    with anthropic.Anthropic(base_url=gateway.url, api_key="anything", max_retries=0, timeout=30) as client:
        asked: Any = {"model": MODEL, "max_tokens": 300, "tools": [{"name": "forecast", "input_schema": SCHEMA}]}
        whole = client.messages.create(messages=ASK, **asked)
        with client.messages.stream(messages=ASK, **asked) as stream:
            streamed = stream.get_final_message()
        answers: list[Any] = [whole, streamed]
        for answer in answers:
            assert (answer.stop_reason, answer.content[0].type) == ("tool_use", "tool_use")
            assert fits(answer.content[0].input)
        result = {"type": "tool_result", "tool_use_id": answers[0].content[0].id, "content": "rain"}
        turns: Any = [*ASK, {"role": "assistant", "content": whole.content}, {"role": "user", "content": [result]}]
        assert client.messages.create(messages=turns, **asked).stop_reason == "end_turn"


def test_tools_of_responses(client: Any) -> None:
    tool: Any = {"type": "function", "name": "forecast", "parameters": SCHEMA, "strict": True}
    answer = client.responses.create(model=MODEL, input="the weather?", tools=[tool])
    (item,) = answer.output
    assert item.type == "function_call"
    assert fits(item.arguments)
    parsed = client.responses.parse(model=MODEL, input="a trip", text_format=Trip)
    assert isinstance(parsed.output_parsed, Trip)


def test_langchain(gateway: Addresses) -> None:
    model = ChatOpenAI(base_url=f"{gateway.url}/v1", api_key="anything", model=MODEL, max_retries=0, timeout=30)  # type: ignore[arg-type]
    said = model.invoke("say hello", max_tokens=8)
    assert len(str(said.content).split()) == 8
    pieces = [str(chunk.content) for chunk in model.stream("say hello", max_tokens=8)]
    assert len("".join(pieces).split()) == 8
    question = HumanMessage("the weather?")
    called = model.bind_tools([TOOL]).invoke([question])
    assert fits(called.tool_calls[0]["args"])
    told = ToolMessage("rain", tool_call_id=called.tool_calls[0]["id"])
    assert not model.bind_tools([TOOL]).invoke([question, called, told]).tool_calls
    assert isinstance(model.with_structured_output(Trip).invoke("a trip"), Trip)
