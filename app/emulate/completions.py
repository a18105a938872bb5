"""POST /v1/chat/completions and /v1/completions over one backend, as vLLM answers them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any

from app.api import openai_wire, parsing, schemas
from app.api.asgi import CancelOnDisconnect, ClientGone, Headers, Receive, Scope, Send, read_body
from app.api.headers import client_request_id
from app.api.response_headers import retry_headers
from app.call import FIELDS, NO_OPTIONS, Call
from app.emulate.faults_desk import FaultsDesk
from app.emulate.metrics import VllmMetrics
from app.emulate.pace import slowed
from app.emulate.watch import Watch
from app.emulate.wire import Wire, wire
from app.errors import (
    ApiError,
    BadRequest,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    ShuttingDown,
    Unauthorized,
    from_backend,
)
from app.ids import Ids
from app.planning import COMPLETION_DEFAULT_MAX_TOKENS, asked_of
from backends.clock import Clock
from backends.emulator.backend import EmulatedBackend, EmulatedGeneration
from backends.emulator.faults import Fault
from backends.errors import BackendError
from backends.types import ChoiceEnd, DeploymentInfo, Endpoint, Event, GenerationRequest, TokenChunk

BODY_LIMIT_BYTES = 32 * 1024 * 1024
SSE = (b"content-type", b"text/event-stream; charset=utf-8")
JSON = (b"content-type", b"application/json")
PROXY_PAGE = b"<!doctype html><title>502 Bad Gateway</title><h1>Bad Gateway</h1>"

log = logging.getLogger("turnout.emulate")


class Completions:
    """Parse, ask the engine, write; a client that leaves cancels what it asked for."""

    def __init__(
        self,
        backend: EmulatedBackend,
        names: Iterable[str],
        metrics: VllmMetrics,
        faults: FaultsDesk,
        ids: Ids,
        clock: Clock,
    ) -> None:
        self._backend = backend
        self._deployment: DeploymentInfo = next(iter(backend.info.deployments.values()))
        self._names = tuple(names)
        self._metrics = metrics
        self._faults = faults
        self._ids = ids
        self._clock = clock

    async def __call__(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        sent_id = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = client_request_id(sent_id.decode("latin-1")) or self._ids.request()
        always: Headers = [(b"x-request-id", request_id.encode())]
        out = wire(scope, send, self._clock, None)
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed(f"{scope['path']} takes POST, not {scope['method']}", allow="POST")
            fault = self._faults.pick()
            out = wire(scope, send, self._clock, fault)
            body = await read_body(receive, BODY_LIMIT_BYTES)
            with CancelOnDisconnect(scope, receive):
                if fault is None or await self._goes_on(fault, out, always):
                    await self._answer(endpoint, request_id, body, fault, out, always)
            await out.close()
        except ClientGone:
            pass
        except ApiError as error:
            await send_error(out, error, always)
        except asyncio.CancelledError:  # the server stops and waits no longer
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            await send_error(out, ShuttingDown("the server is shutting down"), always)

    async def _goes_on(self, fault: Fault, out: Wire, always: Headers) -> bool:
        """Do what a fault does before anything is asked of the engine; False = it was all the answer there is.

        Raises: ApiError.
        """
        metrics = self._metrics
        metrics.faults.add((*metrics.labels, fault.kind))
        if fault.kind == "refuse":
            await out.hang_up()
        elif fault.kind == "http_error":
            raise InjectedError(fault)
        elif fault.kind == "wrong_content_type":
            await out.start(200, [*always, (b"content-type", b"text/html")])
            await out.chunk(PROXY_PAGE)
            return False
        elif fault.kind == "hang" and fault.after_chunks == 0:
            await out.stall(fault.hang_s)
        return True

    async def _answer(
        self, endpoint: Endpoint, request_id: str, body: bytes, fault: Fault | None, out: Wire, always: Headers
    ) -> None:
        call, include_usage = self._parse(endpoint, body, request_id)
        generation = self._backend.generate(self._request(call))
        answering = _Answering(self._clock, self._metrics, generation, fault)
        response_id, created_s = self._ids.response(endpoint), self._clock.wall_ns() // 1_000_000_000
        try:
            if call.stream:
                frames = openai_wire.StreamFrames(
                    endpoint, response_id, created_s, call.model, include_usage=include_usage
                )
                await answering.stream(frames, out, [*always, SSE], include_usage=include_usage)
            else:
                choices, usage = await answering.collect(call.choices)
                whole = openai_wire.whole(endpoint, response_id, created_s, call.model, choices, usage)
                await out.start(200, [*always, JSON, (b"content-length", b"%d" % len(whole))])
                await out.whole(whole)
        except BackendError as error:
            raise from_backend(error) from error
        finally:
            await generation.aclose()
            answering.watch.over()

    def _parse(self, endpoint: Endpoint, body: bytes, request_id: str) -> tuple[Call, bool]:
        """Raises: ApiError."""
        wire_request: schemas.ChatRequest | schemas.CompletionRequest
        now_ns = self._clock.now_ns()
        if endpoint == "chat":
            wire_request = schemas.decode_chat(body)
            call = parsing.chat_call(wire_request, body, request_id, now_ns, NO_OPTIONS)
        else:
            wire_request = schemas.decode_completion(body)
            call = parsing.completion_call(wire_request, body, request_id, now_ns, NO_OPTIONS)
        if call.model not in self._names:
            raise NotFound(
                f"the model '{call.model[:256]}' does not exist (there are: {', '.join(self._names)})",
                param="model",
                code="model_not_found",
            )
        lacking = sorted(call.capabilities - self._deployment.capabilities)
        if lacking:
            raise BadRequest(
                f"an emulated engine does not support: {', '.join(lacking)}",
                param=FIELDS.get(lacking[0], lacking[0]),
                code="unsupported_capability",
            )
        return call, parsing.include_usage(wire_request)

    def _request(self, call: Call) -> GenerationRequest:
        limit = call.max_tokens
        if limit is None and call.endpoint == "completion":
            limit = COMPLETION_DEFAULT_MAX_TOKENS
        return asked_of(call, self._deployment.model, limit)


class InjectedError(ApiError):
    """An error asked for by a fault."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(
            f"status {fault.status} on demand (fault http_error)", code="injected", retry_after_s=fault.retry_after_s
        )
        self.status = fault.status
        kinds = {401: Unauthorized.type, 403: Unauthorized.type, 429: Overloaded.type}
        self.type = kinds.get(fault.status, BadRequest.type if fault.status < 500 else self.type)


class _Answering:
    """One generation on its way to the wire, watched for the metrics, slowed down by a fault."""

    def __init__(
        self,
        clock: Clock,
        metrics: VllmMetrics,
        generation: EmulatedGeneration,
        fault: Fault | None,
    ) -> None:
        self.watch = Watch(metrics, clock, generation)
        self._generation = generation
        slow = fault is not None and fault.kind == "slow"
        self._events: AsyncIterable[Event] = slowed(generation, clock, fault.factor) if slow else generation  # type: ignore[union-attr]
        self._tells_usage = fault is None or fault.kind != "missing_usage"

    async def stream(
        self, frames: openai_wire.StreamFrames, out: Wire, headers: Headers, *, include_usage: bool
    ) -> None:
        """Raises: BackendError, ApiError before the first frame; after it, they become an error event."""
        begun: set[int] = set()
        try:
            async for event in self._events:
                self.watch.saw(event)
                if not out.started:
                    await out.start(200, headers)
                if event.index not in begun:
                    begun.add(event.index)
                    if role := frames.role(event.index):
                        await out.chunk(role)
                if type(event) is TokenChunk:
                    await out.chunk(frames.piece(event))
                elif type(event) is ChoiceEnd:
                    await out.chunk(frames.finish(event.index, event.reason))
        except BackendError as error:
            if not out.started:
                raise
            await out.chunk(openai_wire.stream_error(from_backend(error).body()))
            return
        if include_usage and self._tells_usage:
            await out.chunk(frames.usage(openai_wire.token_usage(self._generation.usage())))
        await out.chunk(openai_wire.DONE)

    async def collect(self, choices: int) -> tuple[openai_wire.Gathered, Mapping[str, Any] | None]:
        """Raises: BackendError."""
        gathered = openai_wire.Gathered(choices)
        async for event in self._events:
            self.watch.saw(event)
            gathered.add(event)
        return gathered, openai_wire.token_usage(self._generation.usage()) if self._tells_usage else None


async def send_error(out: Wire, error: ApiError, always: Headers) -> None:
    """An error as JSON, or as an event of a stream under way."""
    body = openai_wire.encode(error.body())
    if out.started:
        await out.chunk(openai_wire.stream_error(error.body()))
    else:
        length = (b"content-length", b"%d" % len(body))
        await out.start(error.status, [*always, JSON, length, *retry_headers(error)])
        await out.whole(body)
    await out.close()
