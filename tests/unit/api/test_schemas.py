"""Bad input becomes a 400 that names the field; good input becomes a Call."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.api import parsing, schemas
from app.call import NO_OPTIONS, Call
from app.errors import BadRequest

GOOD: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello there"}]}


def chat(**fields: Any) -> Call:
    body = json.dumps(GOOD | fields).encode()
    return parsing.chat_call(schemas.decode_chat(body), body, "r", 0, NO_OPTIONS)


def refused(body: bytes) -> BadRequest:
    def parse() -> None:
        parsing.chat_call(schemas.decode_chat(body), body, "r", 0, NO_OPTIONS)

    with pytest.raises(BadRequest) as caught:
        parse()
    return caught.value


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 1}, "model"),
        ({"model": ""}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": 1.5}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -5}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"max_completion_tokens": "many"}, "max_completion_tokens"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"stop": ["a", 1]}, "stop[1]"),
        ({"stop": 7}, "stop"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"seed": 2**70}, "seed"),
        ({"priority": 101}, "priority"),
        ({"priority": "high"}, "priority"),
        ({"user": 5}, "user"),
        ({"metadata": {"a": 1}}, "metadata[]"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
    ],
)
def test_wrong_fields_are_named(fields: dict[str, Any], param: str) -> None:
    assert refused(json.dumps(GOOD | fields).encode()).param == param


@pytest.mark.parametrize("field", ["model", "messages"])
def test_missing_fields_are_named(field: str) -> None:
    error = refused(json.dumps({key: value for key, value in GOOD.items() if key != field}).encode())
    assert (error.param, error.error_code) == (field, "missing_required_parameter")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":NaN}',
        b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"tools":' + b"[" * 50_000,
    ],
)
def test_what_is_not_json_is_a_400(body: bytes) -> None:
    assert refused(body).error_code in ("invalid_json", "invalid_value")


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"7"])
def test_a_body_that_is_no_object_is_a_400(body: bytes) -> None:
    assert refused(body).status == 400


def test_a_number_too_large_for_a_float_names_its_field() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":1e999}'
    assert refused(body).param == "temperature"


def test_fields_become_a_call() -> None:
    call = chat(n=2, max_tokens=5, max_completion_tokens=7, stop="END", seed=3, stream=True, temperature=0)
    assert (call.n, call.max_tokens, call.stop, call.seed, call.stream, call.deterministic) == (
        2, 7, ("END",), 3, True, True,
    )  # fmt: skip
    assert (chat(priority=-100).priority, chat().priority) == (-100, 0)


def test_text_parts_are_read_and_other_parts_need_vision() -> None:
    content = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    call = chat(messages=[{"role": "system", "content": "be brief"}, {"role": "user", "content": content}])
    assert call.prompts == ("be brief\nlook",)
    assert call.capabilities == {"vision"}


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}, "json_schema"),
        ({"logprobs": True}, "logprobs"),
    ],
)
def test_what_a_request_needs_of_a_backend(fields: dict[str, Any], needs: str) -> None:
    assert chat(**fields).capabilities == {needs}
    assert chat(response_format={"type": "text"}, tools=[]).capabilities == frozenset()


def test_unknown_fields_are_let_through() -> None:
    assert chat(top_k=5, chat_template_kwargs={"a": 1}).prompts == ("hello there",)


def test_completions_take_one_prompt_or_several() -> None:
    def completion(**fields: Any) -> Call:
        body = json.dumps({"model": "m", **fields}).encode()
        return parsing.completion_call(schemas.decode_completion(body), body, "r", 0, NO_OPTIONS)

    assert completion(prompt="a b").prompts == ("a b",)
    assert completion(prompt=["a", "b"], n=2).choices == 4
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, 2]}, "prompt[0]"),
        ({"prompt": "a", "echo": True}, "echo"),
        ({"prompt": "a", "best_of": 3}, "best_of"),
    ]
    for fields, param in mistakes:
        with pytest.raises(BadRequest) as caught:
            completion(**fields)
        assert caught.value.param == param
