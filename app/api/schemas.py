"""OpenAI's request bodies, typed and range-checked in one decoding pass.

Unknown fields are allowed (they pass through to real upstreams and enter the cache key). A field of the wrong
type or range becomes a `BadRequest` that names it, as OpenAI does.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from app.errors import BadRequest

MAX_CHOICES = 128
MAX_PRIORITY = 100

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Choices = Annotated[int, Meta(ge=1, le=MAX_CHOICES)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
StopText = Annotated[str, Meta(min_length=1, max_length=1024)]
Stop = Annotated[str, Meta(max_length=1024)] | Annotated[list[StopText], Meta(max_length=16)]
Priority = Annotated[int, Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY)]
Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class StreamOptions(Struct):
    """What a stream should carry beyond text."""

    include_usage: bool | None = None


class ContentPart(Struct):
    """A piece of a message: text is read, other types only tell which capability is needed."""

    type: str
    text: str | None = None


class Message(Struct):
    """One turn of a conversation."""

    role: Role
    content: str | list[ContentPart] | None = None
    tool_calls: list[Any] | None = None


ToolName = Annotated[str, Meta(min_length=1, max_length=128)]


class JsonSchema(Struct):
    """The schema that an answer is to follow."""

    name: ToolName
    schema: dict[str, Any] | bool | None = None
    strict: bool | None = None


class ResponseFormat(Struct):
    """`text`, or a JSON mode that the backend must support."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class FunctionTool(Struct):
    """A function that the model may call."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct):
    """Something that the model may use; other types than `function` are left to who answers."""

    type: str
    function: FunctionTool | None = None


class _Sampling(Struct, kw_only=True):
    """Fields that both endpoints share."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    n: Choices | None = None
    stop: Stop | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    ignore_eos: bool | None = None
    priority: Priority | None = None


class ChatRequest(_Sampling, kw_only=True):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: Count | None = None
    tools: list[Tool] | None = None
    functions: list[Any] | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


class CompletionRequest(_Sampling, kw_only=True):
    """POST /v1/completions."""

    prompt: str | Annotated[list[str], Meta(min_length=1, max_length=MAX_CHOICES)] | UnsetType = UNSET
    echo: bool | None = None
    suffix: str | None = None
    best_of: Choices | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None


T = TypeVar("T")

_CHAT = msgspec.json.Decoder(ChatRequest)
_COMPLETION = msgspec.json.Decoder(CompletionRequest)
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_PATH = re.compile(r" - at `\$\.?(?P<path>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]+)`")


def decode_chat(body: bytes) -> ChatRequest:
    """Raises: BadRequest."""
    return decode(_CHAT, body)


def decode_completion(body: bytes) -> CompletionRequest:
    """Raises: BadRequest."""
    request = decode(_COMPLETION, body)
    if request.prompt is UNSET:
        raise BadRequest("'prompt' is required", param="prompt", code="missing_required_parameter")
    return request


def decode_object(body: bytes) -> dict[str, Any]:
    """The body as plain data, for the cache key. Unknown fields, which the typed decoders skip, are checked here.

    Raises: BadRequest.
    """
    return decode(_OBJECT, body)


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """A body of any wire, decoded; what is wrong with it is named as OpenAI does.

    Raises: BadRequest.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error}", code="invalid_json") from None
    except UnicodeDecodeError:
        raise BadRequest("the body is not valid UTF-8", code="invalid_json") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply", code="invalid_json") from None


def invalid(text: str, below: str = "") -> BadRequest:
    """msgspec says "<what> - at `$.a[0].b`"; OpenAI says what, and `param: a[0].b`. `below` is where `$` stands."""
    found = _PATH.search(text)
    inside = found["path"].strip(".") if found else ""
    path = f"{below}.{inside}".strip(".") if not inside.startswith("[") else below + inside
    what = text[: found.start()] if found else text
    if missing := _MISSING.match(what):
        param = f"{path}.{missing['field']}" if path else missing["field"]
        return BadRequest(f"'{param}' is required", param=param, code="missing_required_parameter")
    # msgspec does not say which of a plain object's keys it stumbled over.
    param = path.replace("[...]", "[]").removeprefix("[]").strip(".") or None
    where = f"'{param}': " if param else ""
    return BadRequest(f"{where}{what[:1].lower()}{what[1:]}", param=param, code="invalid_value")
