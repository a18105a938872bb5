"""OpenAI's response bodies and stream frames, as bytes. No I/O.

A stream's frames differ only in their text, so everything around it is encoded once per stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from app.metering.cost import CostLines
from backends.types import ChoiceEnd, Endpoint, Event, FinishReason, Thought, TokenChunk, ToolCallPart, Usage
from backends.upstream import sse

DONE = b"data: [DONE]\n\n"


class _Identity(msgspec.Struct):
    id: str
    created: int


_encode = msgspec.json.Encoder().encode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_usage_fields = msgspec.json.Decoder(dict[str, msgspec.Raw] | None).decode
_decode_identity = msgspec.json.Decoder(_Identity).decode


def token_usage(usage: Usage) -> dict[str, Any]:
    """`usage` as OpenAI counts it: cached tokens are part of prompt_tokens, reasoning of completion_tokens."""
    prompt = usage.prompt_tokens + usage.cached_tokens
    completion = usage.completion_tokens + usage.reasoning_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def usage_block(usage: Usage, cost: CostLines | None, energy_j: float | None) -> dict[str, Any]:
    """`token_usage`, plus what it cost in USD and in joules.

    `cost` is null, never zero, where the price is unknown; so is `energy_estimate_j` where the power is.
    """
    return {
        **token_usage(usage),
        "cost": None if cost is None else cost.total_nusd / 1e9,
        "cost_details": None
        if cost is None
        else {
            "prompt": cost.prompt_nusd / 1e9,
            "cached": cost.cached_nusd / 1e9,
            "completion": cost.completion_nusd / 1e9,
            "reasoning": cost.reasoning_nusd / 1e9,
            "request": cost.request_nusd / 1e9,
        },
        "energy_estimate_j": energy_j,
    }


class Gathered:
    """The choices of an answer, put together from its events."""

    def __init__(self, choices: int) -> None:
        self.texts: list[list[str]] = [[] for _ in range(choices)]
        self.thoughts: list[list[str]] = [[] for _ in range(choices)]
        self.signatures = [""] * choices
        self.calls: list[dict[int, tuple[ToolCallPart, list[str]]]] = [{} for _ in range(choices)]
        self.reasons: list[FinishReason] = ["stop"] * choices

    def add(self, event: Event) -> None:
        """The next event."""
        if type(event) is ChoiceEnd:
            self.reasons[event.index] = event.reason
        elif type(event) is TokenChunk:
            if event.thought is not None:
                self.thoughts[event.index].append(event.text)
                self.signatures[event.index] += event.thought.signature
            elif event.tool is None:
                self.texts[event.index].append(event.text)
            else:
                self.calls[event.index].setdefault(event.tool.place, (event.tool, []))[1].append(event.text)

    def message(self, index: int) -> dict[str, Any]:
        """A choice as the message of a chat."""
        text, calls = "".join(self.texts[index]), self.calls[index]
        thought = Thought(self.signatures[index])
        reasoning = _thought("".join(self.thoughts[index]), thought) if self.thoughts[index] else {}
        if not calls:
            return {"role": "assistant", "content": text, "refusal": None, **reasoning}
        listed = [
            {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": "".join(pieces)}}
            for call, pieces in calls.values()
        ]
        return {"role": "assistant", "content": text or None, "refusal": None, "tool_calls": listed, **reasoning}


def whole(
    endpoint: Endpoint,
    response_id: str,
    created_s: int,
    model: str,
    gathered: Gathered,
    usage: Mapping[str, Any] | None,
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """A complete answer."""
    indices = range(len(gathered.reasons))
    kind = "text_completion"
    said: list[dict[str, Any]] = [{"text": "".join(texts)} for texts in gathered.texts]
    if endpoint == "chat":
        kind, said = "chat.completion", [{"message": gathered.message(index)} for index in indices]
    listed = [
        {"index": index, **said[index], "logprobs": None, "finish_reason": gathered.reasons[index]} for index in indices
    ]
    body: dict[str, Any] = {
        "id": response_id,
        "object": kind,
        "created": created_s,
        "model": model,
        "choices": listed,
        "usage": usage,
    }
    if extra:
        body.update(extra)
    return _encode(body)


def _thought(text: str, thought: Thought) -> dict[str, str]:
    """Reasoning as vLLM and others name it, and the signature of it under a name of ours."""
    reasoning = {"reasoning_content": text} if text else {}
    return reasoning | ({"reasoning_signature": thought.signature} if thought.signature else {})


def passed_on(raw: bytes, model: str, usage: Mapping[str, Any], extra: Mapping[str, Any] | None = None) -> bytes:
    """A real service's answer in one piece as the client gets it: every field as it came, but for the model and what
    usage is counted here; what else the service says there (Groq's times, say) stays."""
    fields = _decode_fields(raw)
    theirs = _usage_fields(fields["usage"]) if "usage" in fields else None
    return _encode({**fields, "model": model, "usage": {**(theirs or {}), **usage}, **(extra or {})})


def with_extra(frames: bytes, extra: Mapping[str, Any]) -> bytes:
    """Frames of a real service with keys added at the top level of the last one."""
    *before, last = sse.Decoder(whole=True).feed(frames)
    fields = _decode_fields(sse.data_of(last))
    return b"".join(before) + sse.with_data(last, _encode({**fields, **extra}))


def identity(frames: bytes) -> tuple[str, int] | None:
    """(id, created) of a real service's stream, which its last frames share though we write them."""
    try:
        found = _decode_identity(sse.Decoder().feed(frames)[0])
    except (msgspec.DecodeError, IndexError):
        return None
    return found.id, found.created


class StreamFrames:
    """The SSE frames of one stream."""

    def __init__(
        self, endpoint: Endpoint, response_id: str, created_s: int, model: str, *, include_usage: bool
    ) -> None:
        self._chat = endpoint == "chat"
        self._called: set[tuple[int, int]] = set()
        kind = b"chat.completion.chunk" if self._chat else b"text_completion"
        self._head = b'data: {"id":%b,"object":"%b","created":%d,"model":%b,' % (
            _encode(response_id),
            kind,
            created_s,
            _encode(model),
        )
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._before_text = self._head + (
            b'"choices":[{"index":%d,"delta":{"content":' if self._chat else b'"choices":[{"index":%d,"text":'
        )
        self._after_text = (
            b'},"logprobs":null,"finish_reason":null}]' if self._chat else b',"logprobs":null,"finish_reason":null}]'
        ) + self._tail

    def role(self, index: int) -> bytes:
        """The first frame of a chat choice; nothing for completions."""
        if not self._chat:
            return b""
        return (
            self._head + b'"choices":[{"index":%d,"delta":{"role":"assistant","content":"","refusal":null},'
            b'"logprobs":null,"finish_reason":null}]' % index + self._tail
        )

    def piece(self, event: TokenChunk) -> bytes:
        """A piece of a choice's answer, or of a call that it makes."""
        if event.thought is not None:
            return self._delta(event.index, _thought(event.text, event.thought))
        if event.tool is None:
            return self._before_text % event.index + _encode(event.text) + self._after_text
        call: dict[str, Any] = {"index": event.tool.place}
        if (key := (event.index, event.tool.place)) not in self._called:
            self._called.add(key)
            call |= {"id": event.tool.call_id, "type": "function"}
            call["function"] = {"name": event.tool.name, "arguments": event.text}
        else:
            call["function"] = {"arguments": event.text}
        return self._delta(event.index, {"tool_calls": [call]})

    def _delta(self, index: int, delta: Mapping[str, Any]) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        return self._head + b'"choices":[' + _encode(choice) + b"]" + self._tail

    def finish(self, index: int, reason: FinishReason, extra: Mapping[str, Any] | None = None) -> bytes:
        """The last frame of a choice; `extra` keys are added at the top level."""
        empty = b'"delta":{}' if self._chat else b'"text":""'
        tail = self._tail
        if extra:
            tail = b"," + _encode(extra)[1:-1] + tail
        return (
            self._head
            + b'"choices":[{"index":%d,%b,"logprobs":null,"finish_reason":"%b"}]' % (index, empty, reason.encode())
            + tail
        )

    def aside(self, extra: Mapping[str, Any]) -> bytes:
        """A frame that carries `extra` keys and no choice."""
        return self._head + b'"choices":[],' + _encode(extra)[1:-1] + self._tail

    def usage(self, usage: Mapping[str, Any], extra: Mapping[str, Any] | None = None) -> bytes:
        """The frame that carries usage and no choice."""
        tail = b"," + _encode(extra)[1:-1] if extra else b""
        return self._head + b'"choices":[],"usage":' + _encode(usage) + tail + b"}\n\n"


def stream_error(body: Mapping[str, Any]) -> bytes:
    """An error after headers have left; clients raise on it, and no [DONE] follows."""
    return b"data: " + _encode(body) + b"\n\n"


def encode(body: Mapping[str, Any]) -> bytes:
    """Any JSON body."""
    return _encode(body)
