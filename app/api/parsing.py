"""From a decoded wire request to a `Call`: what OpenAI's fields mean here."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import UNSET

from app.api.schemas import ChatRequest, CompletionRequest, ContentPart, Message, ResponseFormat, Tool
from app.call import Call, Options
from app.errors import BadRequest
from backends.types import Capability

_encode = msgspec.json.Encoder().encode
_TEXT_PARTS = frozenset({"text", "input_text", "refusal"})


def chat_call(wire: ChatRequest, body: bytes, request_id: str, started_ns: int, options: Options) -> Call:
    """A chat request. The prompt is every message's text, a line each.

    Raises: BadRequest.
    """
    _check_stream_options(wire)
    needs: set[Capability] = set()
    texts: list[str] = []
    if wire.tools:  # a model reads them like the rest, before it
        texts.append(_encode(wire.tools).decode())
    for message in wire.messages:
        _read(message, texts, needs)
    if wire.tools or wire.functions:
        _check_tools(wire.tools or ())
        needs.add("tools")
    if wire.response_format is not None and wire.response_format.type != "text":
        _check_format(wire.response_format)
        needs.add("json_schema")
    if wire.logprobs or wire.top_logprobs:
        needs.add("logprobs")
    limit = wire.max_tokens if wire.max_completion_tokens is None else wire.max_completion_tokens
    return Call(
        request_id=request_id,
        endpoint="chat",
        model=wire.model,
        prompts=("\n".join(texts),),
        body=body,
        started_ns=started_ns,
        options=options,
        n=wire.n or 1,
        max_tokens=limit,
        min_tokens=wire.min_tokens or 0,
        ignore_eos=bool(wire.ignore_eos),
        stop=_stops(wire.stop),
        seed=wire.seed,
        temperature=wire.temperature,
        stream=bool(wire.stream),
        priority=wire.priority or 0,
        user=wire.user,
        capabilities=frozenset(needs),
    )


def completion_call(wire: CompletionRequest, body: bytes, request_id: str, started_ns: int, options: Options) -> Call:
    """A text completion of one prompt or several.

    Raises: BadRequest.
    """
    _check_stream_options(wire)
    for field in ("echo", "suffix"):
        if getattr(wire, field):
            raise BadRequest(f"'{field}' is not supported", param=field, code="unsupported_parameter")
    if wire.best_of is not None and wire.best_of != (wire.n or 1):
        raise BadRequest("'best_of' other than 'n' is not supported", param="best_of", code="unsupported_parameter")
    assert wire.prompt is not UNSET
    prompt = wire.prompt
    return Call(
        request_id=request_id,
        endpoint="completion",
        model=wire.model,
        prompts=(prompt,) if isinstance(prompt, str) else tuple(prompt),
        body=body,
        started_ns=started_ns,
        options=options,
        n=wire.n or 1,
        max_tokens=wire.max_tokens,
        min_tokens=wire.min_tokens or 0,
        ignore_eos=bool(wire.ignore_eos),
        stop=_stops(wire.stop),
        seed=wire.seed,
        temperature=wire.temperature,
        stream=bool(wire.stream),
        priority=wire.priority or 0,
        user=wire.user,
        capabilities=frozenset({"logprobs"}) if wire.logprobs is not None else frozenset(),
    )


def include_usage(wire: ChatRequest | CompletionRequest) -> bool:
    """Whether the stream ends with a usage chunk."""
    return wire.stream_options is not None and bool(wire.stream_options.include_usage)


def _read(message: Message, texts: list[str], needs: set[Capability]) -> None:
    content = message.content
    if message.tool_calls:
        texts.append(_encode(message.tool_calls).decode())
    if content is None:
        return
    if isinstance(content, str):
        texts.append(content)
        return
    for part in content:
        _read_part(part, texts, needs)


def _read_part(part: ContentPart, texts: list[str], needs: set[Capability]) -> None:
    if part.type not in _TEXT_PARTS:
        needs.add("vision")
    elif part.text:
        texts.append(part.text)


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    if not stop:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


def _check_tools(tools: Iterable[Tool]) -> None:
    for place, tool in enumerate(tools):
        if tool.type == "function" and tool.function is None:
            raise _required(f"tools[{place}].function")


def _check_format(wanted: ResponseFormat) -> None:
    if wanted.type == "json_schema" and wanted.json_schema is None:
        raise _required("response_format.json_schema")


def _required(param: str) -> BadRequest:
    return BadRequest(f"'{param}' is required", param=param, code="missing_required_parameter")


def _check_stream_options(wire: ChatRequest | CompletionRequest) -> None:
    if wire.stream_options is not None and not wire.stream:
        raise BadRequest(
            "'stream_options' is only allowed when 'stream' is true", param="stream_options", code="invalid_value"
        )
