"""OpenAI's embeddings.

A vector travels as the text of a chunk, base64 of little-endian 32-bit floats; what a real service sent is passed on.
"""

from __future__ import annotations

from base64 import b64decode
from struct import iter_unpack
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from app.api import openai_wire
from app.api.schemas import decode
from app.api.wires.base import Arrival, Bill, Extra, Opening
from app.call import Call
from app.errors import ApiError, BadRequest
from backends.types import Event, TokenChunk

MAX_INPUTS = 2048
MAX_DIMENSIONS = 4096


class EmbeddingsRequest(Struct, kw_only=True):
    """POST /v1/embeddings."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    input: str | list[Any] | UnsetType = UNSET
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=MAX_DIMENSIONS)] | None = None
    user: str | None = None


_REQUEST = msgspec.json.Decoder(EmbeddingsRequest)
_encode = msgspec.json.Encoder().encode


class EmbeddingsReading(NamedTuple):
    """A call for vectors, never streamed."""

    call: Call
    base64: bool

    def stream(self, opening: Opening) -> WholeWriter:
        raise AssertionError("embeddings are not streamed")

    def whole(self, opening: Opening) -> WholeWriter:
        return WholeWriter(opening, self.call.choices, self.base64)


class EmbeddingsWire:
    """POST /v1/embeddings."""

    name = "embedding"
    id_header: bytes | None = None

    def read(self, arrival: Arrival) -> EmbeddingsReading:
        """Raises: BadRequest."""
        wire = decode(_REQUEST, arrival.body)
        call = Call(
            request_id=arrival.request_id,
            endpoint="embedding",
            model=wire.model,
            prompts=_texts(wire.input),
            body=arrival.body,
            started_ns=arrival.started_ns,
            options=arrival.options,
            max_tokens=1,
            # The same text has the same vector, so an answer may be kept.
            temperature=0.0,
            user=wire.user,
            capabilities=frozenset({"embeddings"}),
        )
        return EmbeddingsReading(call, wire.encoding_format == "base64")

    def error(self, error: ApiError, request_id: str) -> bytes:
        return openai_wire.encode(error.body())

    def stream_error(self, error: ApiError, request_id: str) -> bytes:
        raise AssertionError("embeddings are not streamed")


EMBEDDINGS = EmbeddingsWire()


class WholeWriter:
    """The vectors in their inputs' order."""

    def __init__(self, opening: Opening, inputs: int, base64: bool) -> None:
        self._opening = opening
        self._base64 = base64
        self._vectors = [""] * inputs
        self._raw = b""

    def begin(self) -> bytes:
        return b""

    def event(self, event: Event) -> bytes:
        self._raw = self._raw or event.raw or b""
        if type(event) is TokenChunk:
            self._vectors[event.index] += event.text
        return b""

    def failed(self, error: ApiError) -> bytes:
        return openai_wire.encode(error.body())

    def end(self, bill: Bill, extra: Extra | None) -> bytes:
        usage = usage_block(bill)
        if self._raw:
            return openai_wire.passed_on(self._raw, self._opening.model, usage, extra)
        data = [
            {"object": "embedding", "index": index, "embedding": vector if self._base64 else _floats(vector)}
            for index, vector in enumerate(self._vectors)
        ]
        body = {"object": "list", "data": data, "model": self._opening.model, "usage": usage}
        return _encode({**body, **(extra or {})})


def usage_block(bill: Bill) -> dict[str, Any]:
    """Prompt tokens are all there are; and what they cost."""
    ours = openai_wire.usage_block(*bill)
    return {name: value for name, value in ours.items() if not name.startswith("completion_")}


def _texts(given: str | list[Any] | UnsetType) -> tuple[str, ...]:
    """Inputs as texts; token ids, for which nobody here has the vocabulary, stand for one word each."""
    if given is UNSET:
        raise BadRequest("'input' is required", param="input", code="missing_required_parameter")
    if isinstance(given, str):
        return (given,)
    if not 0 < len(given) <= MAX_INPUTS:
        raise _invalid(f"must have 1 to {MAX_INPUTS:,} entries")
    if all(type(each) is str for each in given):
        return tuple(given)
    if _are_tokens(given):
        return (_words(given),)
    if all(isinstance(each, list) and _are_tokens(each) for each in given):
        return tuple(_words(each) for each in given)
    raise _invalid("must be a text, a list of texts, of token ids, or of lists of token ids")


def _are_tokens(given: list[Any]) -> bool:
    return bool(given) and all(type(each) is int and each >= 0 for each in given)


def _words(tokens: list[int]) -> str:
    return " ".join(map(str, tokens))


def _invalid(what: str) -> BadRequest:
    return BadRequest(f"'input' {what}", param="input", code="invalid_value")


def _floats(vector: str) -> list[float]:
    return [number for (number,) in iter_unpack("<f", b64decode(vector))]
