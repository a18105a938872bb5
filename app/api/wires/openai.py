"""OpenAI's chat and text completions: what backends speak too, so that most goes through as it came."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from app.api import openai_wire, parsing, schemas
from app.api.wires.base import Arrival, Bill, Extra, Opening
from app.api.wires.openai_stream import StreamWriter
from app.call import Call
from app.errors import ApiError
from backends.types import Event


class OpenAIReading(NamedTuple):
    """A chat or a text completion."""

    call: Call
    include_usage: bool

    def stream(self, opening: Opening) -> StreamWriter:
        endpoint, opening = self.call.endpoint, _named(self.call, opening)
        return StreamWriter(endpoint, *opening, include_usage=self.include_usage)

    def whole(self, opening: Opening) -> WholeWriter:
        return WholeWriter(self.call, _named(self.call, opening))


class OpenAIWire:
    """One of the two, by how its body is read."""

    def __init__(self, name: str, read: Callable[[Arrival], OpenAIReading]) -> None:
        self.name = name
        self.id_header: bytes | None = None
        self.read = read

    def error(self, error: ApiError, request_id: str) -> bytes:
        return openai_wire.encode(error.body())

    def stream_error(self, error: ApiError, request_id: str) -> bytes:
        return openai_wire.stream_error(error.body())


def _chat(arrival: Arrival) -> OpenAIReading:
    body, request_id, started_ns, options = arrival
    wire = schemas.decode_chat(body)
    return OpenAIReading(parsing.chat_call(wire, body, request_id, started_ns, options), parsing.include_usage(wire))


def _completion(arrival: Arrival) -> OpenAIReading:
    body, request_id, started_ns, options = arrival
    wire = schemas.decode_completion(body)
    return OpenAIReading(
        parsing.completion_call(wire, body, request_id, started_ns, options), parsing.include_usage(wire)
    )


def _named(call: Call, opening: Opening) -> Opening:
    prefix = "chatcmpl-" if call.endpoint == "chat" else "cmpl-"
    return opening._replace(identifier=prefix + opening.identifier)


CHAT = OpenAIWire("chat", _chat)
COMPLETION = OpenAIWire("completion", _completion)


class WholeWriter:
    """An answer in one piece: a real service's own, or one made of the events' text."""

    def __init__(self, call: Call, opening: Opening) -> None:
        self._endpoint = call.endpoint
        self._opening = opening
        self._gathered = openai_wire.Gathered(call.choices)
        self._raw = b""

    def begin(self) -> bytes:
        return b""

    def event(self, event: Event) -> bytes:
        self._raw = self._raw or event.raw or b""
        self._gathered.add(event)
        return b""

    def failed(self, error: ApiError) -> bytes:
        return openai_wire.encode(error.body())

    def end(self, bill: Bill, extra: Extra | None) -> bytes:
        usage = openai_wire.usage_block(*bill)
        if self._raw:
            return openai_wire.passed_on(self._raw, self._opening.model, usage, extra)
        return openai_wire.whole(self._endpoint, *self._opening, self._gathered, usage, extra)
