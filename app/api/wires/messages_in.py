"""Anthropic's request bodies as chat bodies: what each field and block becomes.

    system                          a first message of role `system`
    text, image, document and search_result blocks
                                    parts of a message (`text`, `image_url`, `file`)
    tool_use, tool_result           `tool_calls` of an assistant's message; a message of role `tool` each
    thinking                        `reasoning_content` and `reasoning_signature` of an assistant's message; what is
                                    redacted is left out
    tools, tool_choice              functions; `any` is `required`; `disable_parallel_tool_use` the reverse of
                                    `parallel_tool_calls`
    stop_sequences, metadata.user_id, thinking.budget_tokens, output_config.format
                                    `stop`, `user`, `reasoning_effort`, `response_format`

Fields that are not named here go on as they are. What cannot be translated (tools that Anthropic runs itself, MCP
servers) is refused by name; hints that change no answer (`cache_control`, `service_tier`) are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from app.api.schemas import Count, StopText, decode
from app.errors import BadRequest


class _Base64Source(Struct, tag="base64"):
    media_type: str
    data: str


class _UrlSource(Struct, tag="url"):
    url: str


class _TextSource(Struct, tag="text"):
    data: str
    media_type: str = "text/plain"


class _TextBlock(Struct, tag="text"):
    text: str


class _ImageBlock(Struct, tag="image"):
    source: _Base64Source | _UrlSource


class _DocumentBlock(Struct, tag="document"):
    source: _Base64Source | _UrlSource | _TextSource
    title: str | None = None


class _SearchResultBlock(Struct, tag="search_result"):
    content: list[_TextBlock]
    source: str
    title: str


_Content = _TextBlock | _ImageBlock | _DocumentBlock | _SearchResultBlock


class _ToolUseBlock(Struct, tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


class _ToolResultBlock(Struct, tag="tool_result"):
    tool_use_id: str
    content: str | list[_Content] | None = None
    is_error: bool | None = None


class _ThinkingBlock(Struct, tag="thinking"):
    thinking: str
    signature: str | None = None


class _RedactedBlock(Struct, tag="redacted_thinking"):
    data: str = ""


_Block = _Content | _ToolUseBlock | _ToolResultBlock | _ThinkingBlock | _RedactedBlock


class _Turn(Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block]


class _Tool(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class _ToolChoice(Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Metadata(Struct):
    user_id: str | None = None


class _Thinking(Struct):
    type: str
    budget_tokens: Annotated[int, Meta(ge=1024)] | None = None


class _JsonFormat(Struct, tag="json_schema", tag_field="type"):
    schema: dict[str, Any]


class _OutputConfig(Struct):
    format: _JsonFormat | None = None
    effort: str | None = None


class CountRequest(Struct, kw_only=True):
    """POST /v1/messages/count_tokens, and what it shares with a request for an answer."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    messages: Annotated[list[_Turn], Meta(min_length=1)]
    system: str | list[_TextBlock] | None = None
    tools: list[_Tool] | None = None
    tool_choice: _ToolChoice | None = None
    thinking: _Thinking | None = None
    output_config: _OutputConfig | None = None


class MessagesRequest(CountRequest, kw_only=True):
    """POST /v1/messages."""

    max_tokens: Count
    stream: bool | None = None
    stop_sequences: Annotated[list[StopText], Meta(max_length=16)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    metadata: _Metadata | None = None


_MESSAGES = msgspec.json.Decoder(MessagesRequest)
_COUNT = msgspec.json.Decoder(CountRequest)
TRANSLATED = frozenset("messages system tools tool_choice thinking output_config stop_sequences metadata".split())
DROPPED = frozenset(
    "cache_control service_tier speed inference_geo context_management betas anthropic_version diagnostics "
    "user_profile_id workspace_id".split()
)
REFUSED = ("mcp_servers", "container")
_EFFORTS = ((2048, "low"), (8192, "medium"))
"""A budget of fewer thinking tokens than this asks for that effort; of more, for high."""


def decode_messages(body: bytes) -> MessagesRequest:
    """Raises: BadRequest."""
    return decode(_MESSAGES, body)


def decode_count(body: bytes) -> CountRequest:
    """Raises: BadRequest."""
    return decode(_COUNT, body)


def chat_fields(wire: CountRequest, given: Mapping[str, Any]) -> dict[str, Any]:
    """The chat body of a request; `given` is the same body as plain data.

    Raises: BadRequest.
    """
    for name in REFUSED:
        if given.get(name):
            raise _unsupported(name, f"'{name}' is not supported")
    if given.get("n") not in (None, 1):
        raise _unsupported("n", "'n' is not known to this API: it has one answer")
    fields = {name: value for name, value in given.items() if name not in TRANSLATED | DROPPED and name not in REFUSED}
    fields["messages"] = [*_system(wire.system), *_turns(wire.messages)]
    if wire.tools:
        fields["tools"] = [_tool(place, tool) for place, tool in enumerate(wire.tools)]
    if wire.tool_choice is not None:
        fields |= _choice(wire.tool_choice)
    output = wire.output_config or _OutputConfig()
    if output.format is not None:
        schema = {"name": "answer", "schema": output.format.schema, "strict": True}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    if effort := output.effort or _effort(wire.thinking):
        fields["reasoning_effort"] = effort
    if isinstance(wire, MessagesRequest):
        if wire.stop_sequences:
            fields["stop"] = wire.stop_sequences
        if wire.metadata is not None and wire.metadata.user_id is not None:
            fields["user"] = wire.metadata.user_id
    return fields


def _system(system: str | Sequence[_TextBlock] | None) -> list[dict[str, Any]]:
    if not system:
        return []
    text = system if isinstance(system, str) else "\n".join(block.text for block in system)
    return [{"role": "system", "content": text}]


def _turns(turns: Sequence[_Turn]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for place, turn in enumerate(turns):
        if isinstance(turn.content, str):
            messages.append({"role": turn.role, "content": turn.content})
        elif turn.role == "assistant":
            messages.append(_assistant(place, turn.content))
        else:
            messages += _user(place, turn.role, turn.content)
    return messages


def _assistant(place: int, blocks: Sequence[_Block]) -> dict[str, Any]:
    texts: list[str] = []
    thoughts: list[str] = []
    signature = ""
    calls: list[dict[str, Any]] = []
    for number, block in enumerate(blocks):
        if isinstance(block, _TextBlock):
            texts.append(block.text)
        elif isinstance(block, _ThinkingBlock):
            thoughts.append(block.thinking)
            signature = block.signature or signature
        elif isinstance(block, _ToolUseBlock):
            arguments = msgspec.json.encode(block.input).decode()
            function = {"name": block.name, "arguments": arguments}
            calls.append({"id": block.id, "type": "function", "function": function})
        elif not isinstance(block, _RedactedBlock):
            raise _misplaced(place, number, block, "assistant")
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if signature:
        message["reasoning_signature"] = signature
    if calls:
        message["tool_calls"] = calls
    elif not texts:
        message["content"] = ""
    return message


def _user(place: int, role: str, blocks: Sequence[_Block]) -> list[dict[str, Any]]:
    """Results of tools first, as OpenAI's order demands: they answer the turn before."""
    results: list[dict[str, Any]] = []
    content: list[dict[str, Any]] = []
    for number, block in enumerate(blocks):
        if isinstance(block, _ToolResultBlock):
            results.append(_result(block))
        elif isinstance(block, _Content):
            content.append(_part(block))
        else:
            raise _misplaced(place, number, block, role)
    if not content:
        return results or [{"role": role, "content": ""}]
    return [*results, {"role": role, "content": _joined(content)}]


def _result(block: _ToolResultBlock) -> dict[str, Any]:
    content = block.content or ""
    said = content if isinstance(content, str) else _joined([_part(part) for part in content])
    if block.is_error:  # OpenAI's messages have no place for it but the text
        said = f"Error: {said}" if isinstance(said, str) else [{"type": "text", "text": "Error:"}, *said]
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": said}


def _joined(content: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Text alone is written as text, which every server reads."""
    if all(part["type"] == "text" for part in content):
        return "\n".join(part["text"] for part in content)
    return content


def _part(block: _Content) -> dict[str, Any]:
    if isinstance(block, _TextBlock):
        return {"type": "text", "text": block.text}
    if isinstance(block, _SearchResultBlock):
        found = "\n".join(part.text for part in block.content)
        return {"type": "text", "text": f"{block.title} ({block.source})\n{found}"}
    source = block.source
    if isinstance(source, _TextSource):
        return {"type": "text", "text": source.data}
    url = source.url if isinstance(source, _UrlSource) else f"data:{source.media_type};base64,{source.data}"
    if isinstance(block, _ImageBlock):
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"filename": block.title or "document", "file_data": url}}


def _tool(place: int, tool: _Tool) -> dict[str, Any]:
    if tool.type not in (None, "custom"):
        raise _unsupported(f"tools[{place}].type", f"the tool '{tool.type}' is Anthropic's own: nobody here runs it")
    if tool.input_schema is None:
        at = f"tools[{place}].input_schema"
        raise BadRequest(f"'{at}' is required", param=at, code="missing_required_parameter")
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _choice(choice: _ToolChoice) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if choice.type == "tool":
        if not choice.name:
            at = "tool_choice.name"
            raise BadRequest(f"'{at}' is required", param=at, code="missing_required_parameter")
        fields["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    else:
        fields["tool_choice"] = "required" if choice.type == "any" else choice.type
    if choice.disable_parallel_tool_use is not None:
        fields["parallel_tool_calls"] = not choice.disable_parallel_tool_use
    return fields


def _effort(thinking: _Thinking | None) -> str | None:
    if thinking is None or thinking.type not in ("enabled", "adaptive"):
        return None
    if thinking.budget_tokens is None:
        return "medium"
    return next((effort for below, effort in _EFFORTS if thinking.budget_tokens < below), "high")


def _misplaced(place: int, number: int, block: _Block, role: str) -> BadRequest:
    at = f"messages[{place}].content[{number}]"
    kind = block.__struct_config__.tag
    return BadRequest(
        f"'{at}': a block '{kind}' has no place in a turn of role '{role}'", param=at, code="invalid_value"
    )


def _unsupported(param: str, message: str) -> BadRequest:
    return BadRequest(message, param=param, code="unsupported_parameter")
