"""Anthropic's answers: the blocks of a message, its stream's events, its errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from app.api import openai_wire
from app.api.wires.base import Bill, Extra, Opening
from app.errors import ApiError
from app.parts import Blocks, Part, Reasoning, Refusal, Text, ToolPiece, parts
from backends.types import ChoiceEnd, Event, FinishReason, TokenChunk

STOP_REASONS: Mapping[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def error_body(error: ApiError, request_id: str) -> bytes:
    """An error in Anthropic's shape, with what OpenAI's says beside it."""
    return _encode(_error(error, request_id))


def error_event(error: ApiError, request_id: str | None = None) -> bytes:
    """The same as the last event of a stream."""
    return _frame("error", _error(error, request_id))


def _error(error: ApiError, request_id: str | None) -> dict[str, Any]:
    said = {
        "type": ERROR_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error"),
        "message": error.message,
        "param": error.param,
        "code": error.error_code,
    }
    return {"type": "error", "error": said, "request_id": request_id}


def usage_block(bill: Bill) -> dict[str, Any]:
    """Tokens by Anthropic's count, where the prompt's do not contain the cached ones; and what it cost."""
    ours = openai_wire.usage_block(*bill)
    usage = bill.usage
    return {
        "input_tokens": usage.prompt_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens + usage.reasoning_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
        **{name: ours[name] for name in ("cost", "cost_details", "energy_estimate_j")},
    }


class StreamWriter:
    """The events of one message."""

    def __init__(self, opening: Opening, request_id: str) -> None:
        self._opening = opening
        self._request_id = request_id
        self._blocks = Blocks()
        self._end = ChoiceEnd(0, "stop")

    def begin(self) -> bytes:
        """What was read is not known yet: the last event says it."""
        usage = {"input_tokens": 0, "output_tokens": 0}
        start = {"type": "message_start", "message": {**_message(self._opening, []), "usage": usage}}
        return _frame("message_start", start) + _frame("ping", {"type": "ping"})

    def event(self, event: Event) -> bytes:
        if type(event) is ChoiceEnd:
            self._end = event
            return b""
        assert type(event) is TokenChunk
        return b"".join(self._part(part) for part in parts(event, stream=True))

    def failed(self, error: ApiError) -> bytes:
        return error_event(error, self._request_id)

    def end(self, bill: Bill, extra: Extra | None) -> bytes:
        said = _ended(self._blocks, self._end)
        last = {"type": "message_delta", "delta": said, "usage": usage_block(bill), **(extra or {})}
        return self._stop() + _frame("message_delta", last) + _frame("message_stop", {"type": "message_stop"})

    def _part(self, part: Part) -> bytes:
        frames = b""
        before = self._blocks.place
        if self._blocks.opens(part):
            frames = self._stop(before)
            block = {"type": "content_block_start", "index": self._blocks.place, "content_block": _begun(part)}
            frames += _frame("content_block_start", block)
        for delta in _deltas(part):
            said = {"type": "content_block_delta", "index": self._blocks.place, "delta": delta}
            frames += _frame("content_block_delta", said)
        return frames

    def _stop(self, place: int | None = None) -> bytes:
        place = self._blocks.place if place is None else place
        if place < 0:
            return b""
        return _frame("content_block_stop", {"type": "content_block_stop", "index": place})


class WholeWriter:
    """A message in one piece."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._blocks = Blocks()
        self._content: list[dict[str, Any]] = []
        self._pieces: list[list[str]] = []
        self._end = ChoiceEnd(0, "stop")

    def begin(self) -> bytes:
        return b""

    def event(self, event: Event) -> bytes:
        if type(event) is ChoiceEnd:
            self._end = event
        elif type(event) is TokenChunk:
            for part in parts(event, stream=False):
                self._part(part)
        return b""

    def failed(self, error: ApiError) -> bytes:
        return error_body(error, "")

    def end(self, bill: Bill, extra: Extra | None) -> bytes:
        for block, pieces in zip(self._content, self._pieces, strict=True):
            _fill(block, "".join(pieces))
        message = _message(self._opening, self._content) | _ended(self._blocks, self._end)
        return _encode({**message, "usage": usage_block(bill), **(extra or {})})

    def _part(self, part: Part) -> None:
        if self._blocks.opens(part):
            self._content.append(_begun(part))
            self._pieces.append([])
        if isinstance(part, Reasoning) and part.signature:
            self._content[-1]["signature"] = part.signature
        self._pieces[-1].append(part.arguments if isinstance(part, ToolPiece) else part.text)


def _ended(blocks: Blocks, end: ChoiceEnd) -> dict[str, Any]:
    """Some services say `stop` after a call that was asked for by name."""
    reason = "stop_sequence" if end.stop is not None else STOP_REASONS[end.reason]
    if blocks.called and end.reason == "stop":
        reason = "tool_use"
    return {"stop_reason": reason, "stop_sequence": end.stop}


def _message(opening: Opening, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"msg_{opening.identifier}",
        "type": "message",
        "role": "assistant",
        "model": opening.model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
    }


def _begun(part: Part) -> dict[str, Any]:
    if isinstance(part, ToolPiece):
        return {"type": "tool_use", "id": part.call_id or f"toolu_{part.place}", "name": part.name, "input": {}}
    if isinstance(part, Reasoning):
        return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "text", "text": ""}


def _deltas(part: Part) -> list[dict[str, Any]]:
    if isinstance(part, ToolPiece):
        return [{"type": "input_json_delta", "partial_json": part.arguments}] if part.arguments else []
    if isinstance(part, Text | Refusal):
        return [{"type": "text_delta", "text": part.text}]
    thought = [{"type": "thinking_delta", "thinking": part.text}] if part.text else []
    return thought + ([{"type": "signature_delta", "signature": part.signature}] if part.signature else [])


def _fill(block: dict[str, Any], said: str) -> None:
    if block["type"] != "tool_use":
        block[block["type"]] = said
        return
    try:
        block["input"] = _decode(said) if said else {}
    except msgspec.DecodeError:  # cut by max_tokens, or a model that writes no JSON: shown as it is, under a key
        block["input"] = {"_unparsed": said}


def _frame(event: str, data: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.encode(), _encode(data))
