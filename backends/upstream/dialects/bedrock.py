"""Amazon Bedrock's Converse: one wire for the models it hosts, on Trainium or whatever it likes.

A chat becomes Anthropic's blocks (`anthropic_out`) and those become Converse's, which say the same in other words.
Fields that Converse has no name for go into `additionalModelRequestFields`. Usage comes last, in `metadata`. Errors are
`{"message"}` with Amazon's status; a throttled or not yet ready model is a full queue (429), a model that fails (424) a
failing service.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from backends.errors import BackendError, ContextExceeded, Saturated, StreamCut, Unavailable, Unsupported
from backends.types import Capability, ChoiceEnd, Endpoint, Event, FinishReason, GenerationRequest, Usage
from backends.upstream.dialects import aws
from backends.upstream.dialects.anthropic_out import messages_body
from backends.upstream.dialects.base import WHOLE_TYPE, Outgoing, Service
from backends.upstream.dialects.blocks import Blocks
from backends.upstream.dialects.counts import count, listing, mapping, service_times
from backends.upstream.dialects.openai import chat_fields
from backends.upstream.dialects.refusals import refusal, shown

REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
_STATUSES = {
    "throttlingException": 429,
    "serviceUnavailableException": 503,
    "validationException": 400,
    "accessDeniedException": 403,
    "modelTimeoutException": 504,
}
MODEL_ERROR = 424
_NO_SUCH_MODEL = ("model identifier is invalid", "on-demand throughput", "doesn't support the model")
"""How Converse says that a model's name is wrong: like a client's fault, and it is the operator's."""

_NO_PART_OF_NAMES = re.compile(r"[^A-Za-z0-9 ()\[\]-]+")
_NAMED = frozenset("model messages system max_tokens temperature top_p stop_sequences tools tool_choice stream".split())
_LIMITS = {"maxTokens": "max_tokens", "temperature": "temperature", "topP": "top_p", "stopSequences": "stop_sequences"}
_CHOICES = ("auto", "any")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Bedrock:
    """Bedrock's runtime."""

    endpoints: ClassVar[frozenset[Endpoint]] = frozenset({"chat"})
    stream_type: ClassVar[str] = aws.STREAM_TYPE
    lacks: ClassVar[frozenset[Capability]] = frozenset({"n", "logprobs", "json_schema", "embeddings"})
    lists_models: ClassVar[bool] = False
    versioned: ClassVar[bool] = False

    def __init__(self, service: Service) -> None:
        self._service = service
        self._signer = aws.Signer(service, "bedrock")

    def outgoing(self, request: GenerationRequest, upstream_model: str, wall_s: float) -> Outgoing:
        body = _encode(converse(messages_body(chat_fields(request), upstream_model, request.max_tokens)))
        method = "converse-stream" if request.stream else "converse"
        url = f"{self._service.url}/model/{quote(upstream_model, safe='')}/{method}"
        accept = aws.STREAM_TYPE if request.stream else WHOLE_TYPE
        return self._signer.signed(Outgoing("POST", url, {"content-type": WHOLE_TYPE, "accept": accept}, body))

    def ping(self, wall_s: float) -> Outgoing:
        """The runtime has nothing that is free to ask: that it knows who asks, and no such address, is enough."""
        return self._signer.signed(Outgoing("GET", f"{self._service.url}/", {"accept": WHOLE_TYPE}))

    def alive(self, status: int) -> bool:
        return status in (200, 400, 404, 405)

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, wall_s: float) -> BackendError:
        return _refusal(self._service, status, headers, body, wall_s)

    def frames(self) -> aws.Frames:
        return aws.Frames()

    def answers(self, request: GenerationRequest, upstream_model: str) -> Converse:
        return Converse(self._service, request)


DIALECT = Bedrock


def converse(message: Mapping[str, Any]) -> dict[str, Any]:
    """Anthropic's body as Converse's.

    Raises: Unsupported.
    """
    if (message.get("output_config") or {}).get("format"):
        raise Unsupported("'response_format' is not known to Converse", "response_format")
    body: dict[str, Any] = {
        "messages": [
            {"role": turn["role"], "content": [_block(block) for block in turn["content"]]}
            for turn in message["messages"]
        ],
        "inferenceConfig": {name: message[ours] for name, ours in _LIMITS.items() if message.get(ours) is not None},
    }
    if message.get("system"):
        body["system"] = [{"text": message["system"]}]
    if message.get("tools"):
        body["toolConfig"] = {"tools": [_tool(tool) for tool in message["tools"]]}
        choice = message.get("tool_choice") or {}
        if choice.get("type") == "tool":
            body["toolConfig"]["toolChoice"] = {"tool": {"name": choice["name"]}}
        elif choice.get("type") in _CHOICES:
            body["toolConfig"]["toolChoice"] = {choice["type"]: {}}
        elif choice.get("type") == "none":
            del body["toolConfig"]
    further = {name: value for name, value in message.items() if name not in _NAMED}
    further.pop("metadata", None)
    return {**body, "additionalModelRequestFields": further} if further else body


def _block(block: Mapping[str, Any]) -> dict[str, Any]:
    kind = block["type"]
    if kind == "text":
        return {"text": block["text"]}
    if kind == "thinking":
        return {"reasoningContent": {"reasoningText": {"text": block["thinking"], "signature": block["signature"]}}}
    if kind == "tool_use":
        return {"toolUse": {"toolUseId": block["id"], "name": block["name"], "input": block["input"]}}
    if kind == "tool_result":
        content = [_block(part) for part in block["content"]] or [{"text": ""}]
        return {"toolResult": {"toolUseId": block["tool_use_id"], "content": content}}
    source = block["source"]
    if source["type"] != "base64":
        raise Unsupported("Converse takes images and documents as data, not by address", "messages")
    form = source["media_type"].rpartition("/")[2]
    if kind == "image":
        return {"image": {"format": form, "source": {"bytes": source["data"]}}}
    name = _NO_PART_OF_NAMES.sub("-", (block.get("title") or "").rpartition(".")[0]).strip() or "document"
    return {"document": {"format": form, "name": name, "source": {"bytes": source["data"]}}}


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    described = {"description": tool["description"]} if tool.get("description") else {}
    return {"toolSpec": {"name": tool["name"], **described, "inputSchema": {"json": tool["input_schema"]}}}


class Converse(Blocks):
    """The events of one answer."""

    def __init__(self, service: Service, request: GenerationRequest) -> None:
        super().__init__(request)
        self._service = service
        self._told: Usage | None = None

    def usage(self) -> Usage:
        """As the service said, or counted from events and characters."""
        return self._told or self.estimated()

    def chunk(self, data: bytes) -> list[Event]:
        """Raises: StreamCut; Unavailable; what an exception means."""
        frame = self._read(data)
        if "exception" in frame:
            raise self._error(str(frame["exception"]), frame.get("message"))
        if (started := mapping(mapping(frame.get("contentBlockStart")).get("start")).get("toolUse")) is not None:
            return self.call(mapping(started).get("toolUseId"), mapping(started).get("name"))
        if "contentBlockDelta" in frame:
            return self._piece(mapping(mapping(frame["contentBlockDelta"]).get("delta")))
        if "messageStop" in frame:
            return self._end(mapping(frame["messageStop"]))
        if "metadata" in frame:
            self._count(mapping(frame["metadata"]))
            self.done = True
            self.end()
        return []

    def whole(self, data: bytes) -> list[Event]:
        """Raises: as `chunk`."""
        answer = self._read(data)
        self.done = True
        self._count(answer)
        events: list[Event] = []
        for block in map(mapping, listing(mapping(mapping(answer.get("output")).get("message")).get("content"))):
            tool = block.get("toolUse")
            if isinstance(tool, dict):
                events += self.call(tool.get("toolUseId"), tool.get("name"))
                events += self.arguments(_encode(tool.get("input") or {}).decode())
            else:
                thought = mapping(mapping(block.get("reasoningContent")).get("reasoningText"))
                events += self._piece({**block, "reasoningContent": thought})
        events += self._end(answer)
        self.end()
        return events

    def end(self) -> None:
        """Raises: as `chunk`, where the answer has not ended."""
        if not self.ended:
            raise self._broken("ended its answer early")

    def _piece(self, delta: Mapping[str, Any]) -> list[Event]:
        tool, thought = mapping(delta.get("toolUse")), mapping(delta.get("reasoningContent"))
        return [
            *self.thought(thought.get("text"), thought.get("signature")),
            *self.text(delta.get("text")),
            *self.arguments(tool.get("input")),
        ]

    def _end(self, said: Mapping[str, Any]) -> list[Event]:
        reason = said.get("stopReason")
        if reason is None or self.ended:
            return []
        self.begun = self.ended = True
        return [ChoiceEnd(0, REASONS.get(str(reason), "stop"))]

    def _count(self, metadata: Mapping[str, Any]) -> None:
        said = mapping(metadata.get("usage"))
        self.times = service_times(mapping(metadata.get("metrics")), {"total_s": "latencyMs"}, 1e3)
        prompt, completion = count(said.get("inputTokens")), count(said.get("outputTokens"))
        if prompt is not None and completion is not None:
            written = count(said.get("cacheWriteInputTokens")) or 0
            self._told = Usage(prompt + written, count(said.get("cacheReadInputTokens")) or 0, completion)

    def _read(self, data: bytes) -> dict[str, Any]:
        try:
            return _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self._broken("sent what is not a part of an answer") from None

    def _error(self, kind: str, said: Any) -> BackendError:
        if self.begun:
            return StreamCut(f"{self._service.name}: {shown(f'{kind}: {said}', self._service.api_key)}")
        self.sent = False  # a refusal, only said late
        return _refusal(self._service, _STATUSES.get(kind, 500), {}, _encode({"message": said}), 0.0)

    def _broken(self, what: str) -> BackendError:
        text = f"{self._service.name} {what}"
        return StreamCut(text) if self.begun else Unavailable(text)


def _refusal(service: Service, status: int, headers: Mapping[str, str], body: bytes, wall_s: float) -> BackendError:
    meant = refusal(service.name, status, headers, body, wall_s, service.api_key)
    if status == MODEL_ERROR:
        return Unavailable(str(meant))
    if status == 400 and "too long" in str(meant):
        return ContextExceeded(str(meant), "messages", "context_length_exceeded")
    kind = headers.get("x-amzn-errortype", "")
    if status == 400 and ("ThrottlingException" in kind or "ServiceQuotaExceeded" in kind):
        return Saturated(str(meant), 1.0, told=True)
    if status == 400 and any(words in str(meant) for words in _NO_SUCH_MODEL):
        return Unavailable(f"{meant} (check its upstream_model)")
    return meant
