"""The hot endpoints, as plain ASGI: POST /v1/chat/completions and /v1/completions.

Parse once, ask the service, write. A client that leaves cancels what it asked for, stream or not; an error before
the first byte is a JSON error with the headers every response has, after it an SSE error event and no [DONE].
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from app.answers import Answer
from app.api import openai_wire, parsing, schemas
from app.api.asgi import CancelOnDisconnect, ClientGone, Headers, Receive, Scope, Send, read_body
from app.api.exchange import Exchange
from app.api.headers import client_request_id, parse
from app.api.receipts import receipt
from app.api.response_headers import ResponseHeaders
from app.api.stream_writer import StreamWriter
from app.bookkeeper import Bookkeeper
from app.call import Call
from app.errors import ApiError, InternalError, MethodNotAllowed, ShuttingDown
from app.ids import Ids
from app.service import CompletionService
from backends.clock import Clock
from backends.types import ChoiceEnd, Endpoint, FinishReason, TokenChunk

CLIENT_CLOSED_REQUEST = 499
LAST_WORDS_S = 0.5
SSE_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
JSON = (b"content-type", b"application/json")

log = logging.getLogger("turnout.api")


class HotEndpoints:
    """Chat and text completions."""

    def __init__(
        self,
        service: CompletionService,
        books: Bookkeeper,
        headers: ResponseHeaders,
        ids: Ids,
        clock: Clock,
        body_limit_bytes: int,
    ) -> None:
        self._service = service
        self._books = books
        self._headers = headers
        self._ids = ids
        self._clock = clock
        self._body_limit_bytes = body_limit_bytes
        self.in_flight = 0
        self._emptied: asyncio.Event | None = None

    async def idle(self) -> None:
        """Wait until no request is in flight."""
        while self.in_flight:
            self._emptied = asyncio.Event()
            await self._emptied.wait()

    async def __call__(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; never raises."""
        sent_id = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = client_request_id(sent_id.decode("latin-1")) or self._ids.request()
        exchange = Exchange(endpoint, request_id, self._clock.now_ns(), send)
        self.in_flight += 1
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed(f"{scope['path']} takes POST, not {scope['method']}", allow="POST")
            exchange.options = parse(scope["headers"])
            body = await read_body(receive, self._body_limit_bytes)
            call = self._parse(exchange, body)
            if call.options.dry_run:
                await self._dry_run(exchange, call)
            else:
                await self._answer(exchange, call, body, scope, receive)
        except ClientGone:
            exchange.status = CLIENT_CLOSED_REQUEST
        except ApiError as error:
            await self._error(exchange, error)
        except asyncio.CancelledError:
            await self._cut_short(exchange)
        except Exception:  # the edge: a client gets a 500 in the usual shape, the log gets the traceback
            log.exception("request %s failed", request_id)
            await self._error(exchange, InternalError(f"internal error; see the log for request {request_id}"))
        finally:
            self.in_flight -= 1
            if self._emptied is not None and not self.in_flight:
                self._emptied.set()
            self._books.finished(
                endpoint,
                exchange.model,
                exchange.call,
                exchange.answer,
                exchange.error,
                exchange.status,
                self._clock.now_ns() - exchange.started_ns,
                exchange.sending_ns,
            )

    def _parse(self, exchange: Exchange, body: bytes) -> Call:
        wire: schemas.ChatRequest | schemas.CompletionRequest
        if exchange.endpoint == "chat":
            wire = schemas.decode_chat(body)
            call = parsing.chat_call(wire, body, exchange.request_id, exchange.started_ns, exchange.options)
        else:
            wire = schemas.decode_completion(body)
            call = parsing.completion_call(wire, body, exchange.request_id, exchange.started_ns, exchange.options)
        exchange.call = call
        exchange.include_usage = parsing.include_usage(wire)
        exchange.model = self._service.planner.resolve(call)
        return call

    async def _dry_run(self, exchange: Exchange, call: Call) -> None:
        decision = self._service.preview(call)
        body = openai_wire.encode({"object": "turnout.decision", **receipt(decision)})
        await self._send_json(exchange, 200, body, self._headers.decided(exchange, decision))

    async def _answer(self, exchange: Exchange, call: Call, body: bytes, scope: Scope, receive: Receive) -> None:
        fields = schemas.decode_object(body) if self._service.cacheable(call) else None
        exchange.cache = "off" if fields is None else "miss"
        last: bytes
        with CancelOnDisconnect(scope, receive):
            answer = await self._service.open(call, fields)
            exchange.answer = answer
            try:
                if call.stream:
                    last = await self._stream(exchange, call, answer)
                else:
                    last = await self._collect(exchange, call, answer)
            finally:
                await answer.aclose()
        if call.stream:
            await exchange.send({"type": "http.response.body", "body": last})
        else:
            await self._send_json(exchange, 200, last, self._headers.answered(exchange, answer, final=True))

    async def _collect(self, exchange: Exchange, call: Call, answer: Answer) -> bytes:
        texts: list[list[str]] = [[] for _ in range(call.choices)]
        reasons: list[FinishReason] = ["stop"] * call.choices
        raw = b""
        async for event in answer:
            raw = raw or event.raw or b""
            if type(event) is TokenChunk:
                texts[event.index].append(event.text)
            elif type(event) is ChoiceEnd:
                reasons[event.index] = event.reason
        usage = openai_wire.usage_block(answer.usage(), answer.cost, answer.energy_j)
        if raw:
            return openai_wire.passed_on(raw, answer.model, usage, self._debug(call, answer))
        return openai_wire.whole(
            call.endpoint,
            self._ids.response(call.endpoint),
            self._clock.wall_ns() // 1_000_000_000,
            answer.model,
            [("".join(parts), reason) for parts, reason in zip(texts, reasons, strict=True)],
            usage,
            self._debug(call, answer),
        )

    async def _stream(self, exchange: Exchange, call: Call, answer: Answer) -> bytes:
        """Writes all but the end, which is returned: [DONE], or an error event if the backend failed midway."""
        writer = StreamWriter(
            call.endpoint,
            self._ids.response(call.endpoint),
            self._clock.wall_ns() // 1_000_000_000,
            answer.model,
            include_usage=exchange.include_usage,
        )
        exchange.status = 200
        headers = SSE_HEADERS + self._headers.answered(exchange, answer, final=False)
        await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            async for event in answer:
                if frame := writer.event(event):
                    await exchange.write({"type": "http.response.body", "body": frame, "more_body": True}, self._clock)
        except ApiError as error:
            return writer.failed(error.body())
        usage = openai_wire.usage_block(answer.usage(), answer.cost, answer.energy_j)
        return writer.end(usage, self._debug(call, answer))

    @staticmethod
    def _debug(call: Call, answer: Answer) -> Mapping[str, Any] | None:
        if not call.options.debug:
            return None
        decision = None if answer.decision is None else receipt(answer.decision)
        return {"turnout": {"cache": answer.cache, "attempts": answer.attempts, "decision": decision}}

    async def _cut_short(self, exchange: Exchange) -> None:
        """The server stops and waits no longer: say so, if the client still listens, and end in peace."""
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                await self._error(exchange, ShuttingDown("the gateway is shutting down"))
        except TimeoutError:
            log.warning("request %s was cut short, and its client does not read", exchange.request_id)

    async def _error(self, exchange: Exchange, error: ApiError) -> None:
        exchange.error = error
        if exchange.status:  # headers are out: all that can be said is an error event
            await exchange.send({"type": "http.response.body", "body": openai_wire.stream_error(error.body())})
            return
        await self._send_json(
            exchange, error.status, openai_wire.encode(error.body()), self._headers.failed(exchange, error)
        )

    async def _send_json(self, exchange: Exchange, status: int, body: bytes, headers: Headers) -> None:
        exchange.status = status
        headers.append(JSON)
        headers.append((b"content-length", b"%d" % len(body)))
        await exchange.send({"type": "http.response.start", "status": status, "headers": headers})
        await exchange.send({"type": "http.response.body", "body": body})
