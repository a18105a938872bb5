"""Anthropic's Messages, answered by any backend."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from app.api import parsing, schemas
from app.api.wires import messages_in
from app.api.wires.base import Arrival, Opening, Sizing
from app.api.wires.messages_out import StreamWriter, WholeWriter, error_body, error_event
from app.call import Call
from app.errors import ApiError

_encode = msgspec.json.Encoder().encode


class MessagesReading(NamedTuple):
    """A chat in Anthropic's clothes."""

    call: Call

    def stream(self, opening: Opening) -> StreamWriter:
        return StreamWriter(opening, self.call.request_id)

    def whole(self, opening: Opening) -> WholeWriter:
        return WholeWriter(opening)


class _Anthropic:
    """What both endpoints say when something is wrong."""

    id_header: bytes | None = b"request-id"

    def error(self, error: ApiError, request_id: str) -> bytes:
        return error_body(error, request_id)

    def stream_error(self, error: ApiError, request_id: str) -> bytes:
        return error_event(error, request_id)


class MessagesWire(_Anthropic):
    """POST /v1/messages."""

    name = "messages"

    def read(self, arrival: Arrival) -> MessagesReading:
        """Raises: BadRequest."""
        wire = messages_in.decode_messages(arrival.body)
        return MessagesReading(_call(messages_in.chat_fields(wire, schemas.decode_object(arrival.body)), arrival))


class CountTokensWire(_Anthropic):
    """POST /v1/messages/count_tokens."""

    name = "count_tokens"

    def read(self, arrival: Arrival) -> Sizing:
        """Raises: BadRequest."""
        wire = messages_in.decode_count(arrival.body)
        return Sizing(_call(messages_in.chat_fields(wire, schemas.decode_object(arrival.body)), arrival), {})


MESSAGES = MessagesWire()
COUNT_TOKENS = CountTokensWire()


def _call(fields: dict[str, Any], arrival: Arrival) -> Call:
    body = _encode(fields)
    return parsing.chat_call(schemas.decode_chat(body), body, arrival.request_id, arrival.started_ns, arrival.options)
