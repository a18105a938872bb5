"""Amazon SageMaker endpoints: OpenAI's bodies, as vLLM and DJL containers take them, in Amazon's envelope.

`upstream_model` is the endpoint. A stream's frames carry pieces of the container's own stream, cut anywhere. What the
container says is wrong comes as a 424 with its status and its words within.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from backends.errors import BackendConfigError, BackendError
from backends.types import Capability, Endpoint, GenerationRequest
from backends.upstream.dialects import aws
from backends.upstream.dialects.base import WHOLE_TYPE, Outgoing, Service
from backends.upstream.dialects.openai import Answers, request_body
from backends.upstream.dialects.refusals import refusal
from backends.upstream.sse import Decoder

MODEL_ERROR = 424


class _ModelError(msgspec.Struct):
    original_status: int = msgspec.field(name="OriginalStatusCode", default=500)
    original_message: str = msgspec.field(name="OriginalMessage", default="")
    message: str = msgspec.field(name="Message", default="")


_decode = msgspec.json.Decoder(_ModelError).decode


class SageMaker:
    """SageMaker's runtime."""

    endpoints: ClassVar[frozenset[Endpoint]] = frozenset({"chat"})
    stream_type: ClassVar[str] = aws.STREAM_TYPE
    lacks: ClassVar[frozenset[Capability]] = frozenset({"embeddings"})
    lists_models: ClassVar[bool] = False
    versioned: ClassVar[bool] = False

    def __init__(self, service: Service) -> None:
        if service.api_key is not None:
            raise BackendConfigError(f"{service.name}: SageMaker knows no API keys: say `aws`, or set it up outside")
        self._service = service
        self._signer = aws.Signer(service, "sagemaker")

    def outgoing(self, request: GenerationRequest, upstream_model: str, wall_s: float) -> Outgoing:
        method = "invocations-response-stream" if request.stream else "invocations"
        url = f"{self._service.url}/endpoints/{quote(upstream_model, safe='')}/{method}"
        body = request_body(request, upstream_model)
        return self._signer.signed(Outgoing("POST", url, {"content-type": WHOLE_TYPE, "accept": WHOLE_TYPE}, body))

    def ping(self, wall_s: float) -> Outgoing:
        """The runtime has nothing that is free to ask: that it knows who asks, and no such address, is enough."""
        return self._signer.signed(Outgoing("GET", f"{self._service.url}/", {"accept": WHOLE_TYPE}))

    def alive(self, status: int) -> bool:
        return status in (200, 400, 404, 405)

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, wall_s: float) -> BackendError:
        if status == MODEL_ERROR:
            try:
                inner = _decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                inner = _ModelError()
            status = inner.original_status if 400 <= inner.original_status < 600 else 500
            body = (inner.original_message or inner.message).encode()
        return refusal(self._service.name, status, headers, body, wall_s, self._service.api_key)

    def frames(self) -> _Frames:
        return _Frames()

    def answers(self, request: GenerationRequest, upstream_model: str) -> Answers:
        return Answers(self._service.name, request, request.model, upstream_model, self._service.api_key)


DIALECT = SageMaker


class _Frames:
    """The container's stream out of Amazon's frames. An exception among them becomes an error chunk as OpenAI's wire
    has it, behind what came before it."""

    def __init__(self) -> None:
        self._outer = aws.Frames()
        self._inner = Decoder(whole=True)

    def feed(self, piece: bytes) -> list[bytes]:
        """Raises: EventTooLong."""
        frames: list[bytes] = []
        for event in self._outer.events(piece):
            if event.headers.get(":message-type") != "event":
                frames.append(_failure(event.headers, event.payload))
            else:
                frames += self._inner.feed(event.payload)
        return frames


def _failure(headers: Mapping[str, Any], payload: bytes) -> bytes:
    kind = headers.get(":exception-type") or headers.get(":error-code")
    said = payload.decode("utf-8", "replace") or headers.get(":error-message") or "no reason given"
    return b"data: %b\n\n" % msgspec.json.encode({"error": {"message": f"{kind}: {said}", "code": 500}})
