"""OpenAI's Responses without memory, answered by any backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from app.api import openai_wire, parsing, schemas
from app.api.wires import responses_in
from app.api.wires.base import Arrival, Opening, Sizing
from app.api.wires.responses_out import StreamWriter, WholeWriter
from app.call import Call
from app.errors import ApiError

_encode = msgspec.json.Encoder().encode


class ResponsesReading(NamedTuple):
    """A chat that is answered in items; `request` is the body as plain data, parts of which an answer repeats."""

    call: Call
    request: Mapping[str, Any]

    def stream(self, opening: Opening) -> StreamWriter:
        return StreamWriter(opening, self.request)

    def whole(self, opening: Opening) -> WholeWriter:
        return WholeWriter(opening, self.request)


class _Responses:
    """What both endpoints say when something is wrong."""

    id_header: bytes | None = None

    def error(self, error: ApiError, request_id: str) -> bytes:
        return openai_wire.encode(error.body())

    def stream_error(self, error: ApiError, request_id: str) -> bytes:
        """Without the event's number: nobody knows how far the writer was."""
        said = {"type": "error", "code": error.error_code, "message": error.message, "param": error.param}
        return b"event: error\ndata: %b\n\n" % _encode(said)


class ResponsesWire(_Responses):
    """POST /v1/responses."""

    name = "responses"

    def read(self, arrival: Arrival) -> ResponsesReading:
        """Raises: BadRequest."""
        given = schemas.decode_object(arrival.body)
        return ResponsesReading(_call(arrival, given), given)


class InputTokensWire(_Responses):
    """POST /v1/responses/input_tokens."""

    name = "input_tokens"

    def read(self, arrival: Arrival) -> Sizing:
        """Raises: BadRequest."""
        return Sizing(_call(arrival, schemas.decode_object(arrival.body)), {"object": "response.input_tokens"})


RESPONSES = ResponsesWire()
INPUT_TOKENS = InputTokensWire()


def _call(arrival: Arrival, given: Mapping[str, Any]) -> Call:
    wire = responses_in.decode_responses(arrival.body)
    body = _encode(responses_in.chat_fields(wire, given))
    return parsing.chat_call(schemas.decode_chat(body), body, arrival.request_id, arrival.started_ns, arrival.options)
