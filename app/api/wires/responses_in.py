"""OpenAI's Responses as chat bodies: what each field and item becomes.

    instructions                    a first message of role `system`
    message                         a message; `input_text`, `output_text`, `input_image`, `input_file` its parts
    function_call(_output)          `tool_calls` of an assistant's message; a message of role `tool`
    reasoning                       `reasoning_content` of the assistant's message after it
    tools, tool_choice              functions, named one level deeper
    text.format, text.verbosity     `response_format`, `verbosity`
    reasoning.effort                `reasoning_effort`
    max_output_tokens               `max_tokens`

Fields that are not named here go on as they are. Nothing is kept of a response, so whatever refers to an earlier one
or runs without its client is refused by name, as are tools that OpenAI runs itself; hints that change no answer
(`store`, `prompt_cache_key`, ...) are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from app.api.schemas import Count, ToolName, decode, invalid
from app.errors import BadRequest


class _Part(Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None


class _Message(Struct):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[_Part]


class _Call(Struct):
    call_id: str
    name: str
    arguments: str


class _Output(Struct):
    call_id: str
    output: str | list[_Part]


class _Thought(Struct):
    text: str


class _Reasoning(Struct):
    content: list[_Thought] | None = None
    summary: list[_Thought] | None = None


class _Tool(Struct):
    type: str
    name: ToolName | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Chosen(Struct):
    type: str
    name: ToolName | None = None


class _Format(Struct):
    type: Literal["text", "json_object", "json_schema"]
    name: ToolName | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class _Text(Struct):
    format: _Format | None = None
    verbosity: str | None = None


class _Thinking(Struct):
    effort: str | None = None


class ResponsesRequest(Struct, kw_only=True):
    """POST /v1/responses."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    input: str | list[dict[str, Any]] | UnsetType = UNSET
    instructions: str | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | _Chosen | None = None
    text: _Text | None = None
    reasoning: _Thinking | None = None
    max_output_tokens: Count | None = None
    include: list[str] | None = None
    stream: bool | None = None


T = TypeVar("T")

_REQUEST = msgspec.json.Decoder(ResponsesRequest)
TRANSLATED = frozenset("input instructions tools tool_choice text reasoning max_output_tokens include".split())
DROPPED = frozenset(
    "store truncation service_tier stream_options prompt_cache_key prompt_cache_retention prompt_cache_options "
    "safety_identifier".split()
)
REFUSED = (
    "background conversation context_management max_tool_calls moderation previous_response_id prompt top_logprobs"
).split()
_INCLUDED = frozenset({"reasoning.encrypted_content"})
"""What clients ask for by habit and may do without."""


def decode_responses(body: bytes) -> ResponsesRequest:
    """Raises: BadRequest."""
    request = decode(_REQUEST, body)
    if request.input is UNSET or request.input == []:
        raise _required("input")
    return request


def chat_fields(wire: ResponsesRequest, given: Mapping[str, Any]) -> dict[str, Any]:
    """The chat body of a request; `given` is the same body as plain data.

    Raises: BadRequest.
    """
    for name in REFUSED:
        if given.get(name):
            raise _unsupported(name, f"'{name}' is not supported: nothing is kept of a response")
    if given.get("n") not in (None, 1):
        raise _unsupported("n", "'n' is not known to this API: it has one answer")
    for name in wire.include or ():
        if name not in _INCLUDED:
            raise _unsupported("include", f"'include': '{name}' is not supported")
    fields = {name: value for name, value in given.items() if name not in TRANSLATED | DROPPED and name not in REFUSED}
    fields["messages"] = _messages(wire)
    if not fields["messages"]:
        raise BadRequest("'input' has nothing to answer", param="input", code="invalid_value")
    if wire.max_output_tokens is not None:
        fields["max_tokens"] = wire.max_output_tokens
    if wire.tools:
        fields["tools"] = [_tool(place, tool) for place, tool in enumerate(wire.tools)]
    if wire.tool_choice is not None:
        fields["tool_choice"] = _choice(wire.tool_choice)
    if wire.text is not None:
        fields |= _text(wire.text)
    if wire.reasoning is not None and wire.reasoning.effort is not None:
        fields["reasoning_effort"] = wire.reasoning.effort
    return fields


def _messages(wire: ResponsesRequest) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if wire.instructions:
        messages.append({"role": "system", "content": wire.instructions})
    if isinstance(wire.input, str):
        return [*messages, {"role": "user", "content": wire.input}]
    assert wire.input is not UNSET
    thoughts = ""
    for place, item in enumerate(wire.input):
        at, kind = f"input[{place}]", item.get("type", "message")
        if kind == "reasoning":
            thought = _read(item, _Reasoning, at)
            thoughts += "".join(part.text for part in thought.content or thought.summary or ())
            continue
        message = _item(item, kind, at, messages)
        if message is not None:
            messages.append(message)
        if thoughts and messages[-1]["role"] == "assistant":
            messages[-1]["reasoning_content"] = messages[-1].get("reasoning_content", "") + thoughts
            thoughts = ""
    return messages


def _item(item: dict[str, Any], kind: str, at: str, before: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """A message, or None for a call that went to the message before it."""
    if kind == "message":
        said = _read(item, _Message, at)
        content = said.content if isinstance(said.content, str) else _content(said.content, f"{at}.content")
        return {"role": said.role, "content": content}
    if kind == "function_call_output":
        output = _read(item, _Output, at)
        told = output.output if isinstance(output.output, str) else _content(output.output, f"{at}.output")
        return {"role": "tool", "tool_call_id": output.call_id, "content": told}
    if kind == "function_call":
        asked = _read(item, _Call, at)
        function = {"name": asked.name, "arguments": asked.arguments}
        call = {"id": asked.call_id, "type": "function", "function": function}
        if before and before[-1]["role"] == "assistant":
            before[-1].setdefault("tool_calls", []).append(call)
            return None
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    raise _unsupported(f"{at}.type", f"'{at}.type': items of type '{kind}' are not supported")


def _content(parts: Sequence[_Part], at: str) -> str | list[dict[str, Any]]:
    """Text alone is written as text, which every server reads."""
    listed = [_part(part, f"{at}[{place}]") for place, part in enumerate(parts)]
    if all(part["type"] == "text" for part in listed):
        return "".join(part["text"] for part in listed)
    return listed


def _part(part: _Part, at: str) -> dict[str, Any]:
    if part.type in ("input_text", "output_text", "text"):
        return {"type": "text", "text": part.text or ""}
    if part.type == "refusal":
        return {"type": "text", "text": part.refusal or ""}
    if part.type == "input_image":
        if part.image_url is None:
            raise _unsupported(at, f"'{at}': an image needs an `image_url`: no files are kept here")
        detail = {} if part.detail is None else {"detail": part.detail}
        return {"type": "image_url", "image_url": {"url": part.image_url, **detail}}
    if part.type == "input_file":
        data = part.file_data or part.file_url
        if data is None:
            raise _unsupported(at, f"'{at}': a file needs `file_data` or `file_url`: no files are kept here")
        return {"type": "file", "file": {"filename": part.filename or "file", "file_data": data}}
    raise _unsupported(f"{at}.type", f"'{at}.type': parts of type '{part.type}' are not supported")


def _tool(place: int, tool: _Tool) -> dict[str, Any]:
    at = f"tools[{place}]"
    if tool.type != "function":
        raise _unsupported(f"{at}.type", f"the tool '{tool.type}' is OpenAI's own: nobody here runs it")
    if not tool.name:
        raise _required(f"{at}.name")
    function: dict[str, Any] = {"name": tool.name}
    for name in ("description", "parameters", "strict"):
        if (value := getattr(tool, name)) is not None:
            function[name] = value
    return {"type": "function", "function": function}


def _choice(choice: str | _Chosen) -> Any:
    if isinstance(choice, str):
        return choice
    if choice.type != "function":
        raise _unsupported("tool_choice.type", f"'tool_choice.type': '{choice.type}' is not supported")
    if not choice.name:
        raise _required("tool_choice.name")
    return {"type": "function", "function": {"name": choice.name}}


def _text(text: _Text) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if text.verbosity is not None:
        fields["verbosity"] = text.verbosity
    wanted = text.format
    if wanted is None or wanted.type == "text":
        return fields
    if wanted.type == "json_object":
        return {**fields, "response_format": {"type": "json_object"}}
    if wanted.schema is None:
        raise _required("text.format.schema")
    schema: dict[str, Any] = {"name": wanted.name or "answer", "schema": wanted.schema}
    for name in ("description", "strict"):
        if (value := getattr(wanted, name)) is not None:
            schema[name] = value
    return {**fields, "response_format": {"type": "json_schema", "json_schema": schema}}


def _read(item: dict[str, Any], kind: type[T], at: str) -> T:
    try:
        return msgspec.convert(item, kind)
    except msgspec.ValidationError as error:
        raise invalid(str(error), at) from None


def _required(param: str) -> BadRequest:
    return BadRequest(f"'{param}' is required", param=param, code="missing_required_parameter")


def _unsupported(param: str, message: str) -> BadRequest:
    return BadRequest(message, param=param, code="unsupported_parameter")
