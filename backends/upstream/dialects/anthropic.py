"""Anthropic's Messages: another wire than OpenAI's, so requests are translated and answers are told as events alone.

`input_tokens` does not contain cached ones; what was written to the cache was read anew and counts as such. The
thinking before an answer is counted with it. Errors by their type: `overloaded_error` (529) and `rate_limit_error` are
a full queue, a prompt that is too long is the context's end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from backends.errors import BackendError, ContextExceeded, Saturated, StreamCut, Unavailable
from backends.types import (
    Capability,
    ChoiceEnd,
    Endpoint,
    Event,
    FinishReason,
    GenerationRequest,
    Usage,
)
from backends.upstream.dialects.anthropic_out import messages_body
from backends.upstream.dialects.base import STREAM_TYPE, WHOLE_TYPE, Outgoing, Service, rooted
from backends.upstream.dialects.blocks import Blocks
from backends.upstream.dialects.counts import count, listing, mapping
from backends.upstream.dialects.openai import chat_fields
from backends.upstream.dialects.refusals import refusal, retry_after_s, shown
from backends.upstream.sse import Decoder

VERSION = "2023-06-01"
OVERLOADED = 529
REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": OVERLOADED,
}
_TOO_LONG = ("prompt is too long", "exceed context limit")
_NO_CREDIT = "credit balance is too low"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Anthropic:
    """Anthropic's API, and what else speaks it."""

    endpoints: ClassVar[frozenset[Endpoint]] = frozenset({"chat"})
    stream_type: ClassVar[str] = STREAM_TYPE
    lacks: ClassVar[frozenset[Capability]] = frozenset({"n", "logprobs", "embeddings"})
    lists_models: ClassVar[bool] = True
    versioned: ClassVar[bool] = True

    def __init__(self, service: Service) -> None:
        self._service = service
        self._url = rooted(service.url, "/v1")

    def outgoing(self, request: GenerationRequest, upstream_model: str, wall_s: float) -> Outgoing:
        body = messages_body(chat_fields(request), upstream_model, request.max_tokens)
        kinds = {"content-type": WHOLE_TYPE, "accept": STREAM_TYPE if request.stream else WHOLE_TYPE}
        return Outgoing("POST", f"{self._url}/messages", {**kinds, **self._headers()}, _encode(body))

    def ping(self, wall_s: float) -> Outgoing:
        return Outgoing("GET", f"{self._url}/models", self._headers())

    def alive(self, status: int) -> bool:
        return status == 200

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, wall_s: float) -> BackendError:
        return _refusal(self._service, status, headers, body, wall_s)

    def frames(self) -> Decoder:
        return Decoder()

    def answers(self, request: GenerationRequest, upstream_model: str) -> Messages:
        return Messages(self._service, request)

    def _headers(self) -> dict[str, str]:
        version = {"anthropic-version": self._service.api_version or VERSION}
        return version if self._service.api_key is None else {**version, "x-api-key": self._service.api_key}


DIALECT = Anthropic


class Messages(Blocks):
    """The events of one message."""

    def __init__(self, service: Service, request: GenerationRequest) -> None:
        super().__init__(request)
        self._service = service
        self._counts: dict[str, int] = {}

    def usage(self) -> Usage:
        """As the service said, or counted from events and characters: a stream that breaks off has told its prompt."""
        counts = self._counts
        if not counts and not self.sent:
            return Usage()
        prompt = counts.get("input_tokens")
        whole = prompt is not None and self.ended
        if prompt is None:
            prompt = self.prompt_tokens()
        said = max(counts.get("output_tokens", 0), 0 if whole else self.said)
        cached = counts.get("cache_read_input_tokens", 0)
        return Usage(prompt + counts.get("cache_creation_input_tokens", 0), cached, said, 0, estimated=not whole)

    def chunk(self, data: bytes) -> list[Event]:
        """Raises: StreamCut; Unavailable; what an error event means."""
        event = self._read(data)
        kind = event.get("type")
        if kind == "error":
            raise self._error(mapping(event.get("error")))
        if kind == "message_start":
            self._count(mapping(event.get("message")).get("usage"))
        elif kind == "content_block_start":
            return self._block(mapping(event.get("content_block")))
        elif kind == "content_block_delta":
            return self._delta(mapping(event.get("delta")))
        elif kind == "message_delta":
            self._count(event.get("usage"))
            return self._end(mapping(event.get("delta")))
        elif kind == "message_stop":
            self.done = True
            self.end()
        return []  # pings, ends of blocks, and whatever will be invented

    def whole(self, data: bytes) -> list[Event]:
        """Raises: as `chunk`."""
        message = self._read(data)
        if message.get("type") == "error":
            raise self._error(mapping(message.get("error")))
        self.done = True
        self._count(message.get("usage"))
        events: list[Event] = []
        for block in map(mapping, listing(message.get("content"))):
            events += self._block(block)
            if block.get("type") == "tool_use":
                events += self.arguments(_encode(block.get("input") or {}).decode())
        events += self._end(message)
        self.end()
        return events

    def end(self) -> None:
        """Raises: as `chunk`, where the message has not ended."""
        if not self.ended:
            raise self._broken("ended its answer early")

    def _block(self, block: Mapping[str, Any]) -> list[Event]:
        """What a block begins with; in a whole message, all of it but a call's arguments."""
        kind = block.get("type")
        if kind == "tool_use":
            return self.call(block.get("id"), block.get("name"))
        if kind == "text":
            return self.text(block.get("text"))
        if kind == "thinking":
            return self.thought(block.get("thinking"), block.get("signature"))
        return []

    def _delta(self, delta: Mapping[str, Any]) -> list[Event]:
        kind = delta.get("type")
        if kind == "text_delta":
            return self.text(delta.get("text"))
        if kind == "thinking_delta":
            return self.thought(delta.get("thinking"))
        if kind == "signature_delta":
            return self.thought(None, delta.get("signature"))
        return self.arguments(delta.get("partial_json")) if kind == "input_json_delta" else []

    def _end(self, said: Mapping[str, Any]) -> list[Event]:
        reason = said.get("stop_reason")
        if reason is None or self.ended:
            return []
        self.begun = self.ended = True
        stop = said.get("stop_sequence")
        return [ChoiceEnd(0, REASONS.get(str(reason), "stop"), None, stop if isinstance(stop, str) else None)]

    def _count(self, usage: Any) -> None:
        """Counts are running totals, told more than once."""
        for name, value in mapping(usage).items():
            if (number := count(value)) is not None:
                self._counts[name] = number

    def _read(self, data: bytes) -> dict[str, Any]:
        try:
            return _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self._broken("sent what is not a part of a message") from None

    def _error(self, error: Mapping[str, Any]) -> BackendError:
        if self.begun:
            text = shown(str(error.get("message")), self._service.api_key)
            return StreamCut(f"{self._service.name}: {text}")
        self.sent = False  # a refusal, only said late
        status = _STATUSES.get(str(error.get("type")), 500)
        return _refusal(self._service, status, {}, _encode({"error": error}), 0.0)

    def _broken(self, what: str) -> BackendError:
        text = f"{self._service.name} {what}"
        return StreamCut(text) if self.begun else Unavailable(text)


def _refusal(service: Service, status: int, headers: Mapping[str, str], body: bytes, wall_s: float) -> BackendError:
    meant = refusal(service.name, status, headers, body, wall_s, service.api_key)
    if status == OVERLOADED:
        return Saturated(str(meant), retry_after_s(headers, wall_s), told=True)
    if status == 400 and _NO_CREDIT in str(meant):  # the operator's account, though it is said like a client's fault
        return Unavailable(str(meant))
    if status == 400 and any(words in str(meant) for words in _TOO_LONG):
        return ContextExceeded(str(meant), "messages", "context_length_exceeded")
    return meant
