"""The hot endpoints, as plain ASGI: what asks for tokens, in whichever wire format a client speaks.

Read once, ask the service, write. A client that leaves cancels what it asked for, stream or not; an error before
the first byte is a JSON error with the headers every response has, after it an SSE error event and no [DONE].
"""

from __future__ import annotations

import asyncio
import logging

from app.answers import Answer
from app.api import openai_wire, schemas
from app.api.asgi import CancelOnDisconnect, ClientGone, Headers, Message, Receive, Scope, Send, read_body
from app.api.exchange import Exchange
from app.api.headers import client_request_id, parse
from app.api.receipts import receipt
from app.api.response_headers import ResponseHeaders
from app.api.wires.base import Arrival, Bill, Extra, Opening, Reading, Sizing, Wire, Writer
from app.bookkeeper import Bookkeeper
from app.call import Call
from app.errors import ApiError, BadRequest, InternalError, MethodNotAllowed, ShuttingDown
from app.ids import Ids
from app.service import CompletionService
from backends.clock import Clock

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
    """Answers requests for tokens."""

    def __init__(
        self,
        service: CompletionService,
        books: Bookkeeper,
        headers: ResponseHeaders,
        ids: Ids,
        clock: Clock,
        body_limit_bytes: int,
        forwarded: frozenset[bytes] = frozenset(),
    ) -> None:
        self._service = service
        self._books = books
        self._headers = headers
        self._ids = ids
        self._clock = clock
        self._body_limit_bytes = body_limit_bytes
        self._forwarded = forwarded
        self.in_flight = 0
        self._emptied: asyncio.Event | None = None

    async def idle(self) -> None:
        """Wait until no request is in flight."""
        while self.in_flight:
            self._emptied = asyncio.Event()
            await self._emptied.wait()

    async def __call__(self, wire: Wire, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; never raises."""
        sent_id = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = client_request_id(sent_id.decode("latin-1")) or self._ids.request()
        exchange = Exchange(wire, request_id, self._clock.now_ns(), send)
        self.in_flight += 1
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed(f"{scope['path']} takes POST, not {scope['method']}", allow="POST")
            exchange.options = parse(scope["headers"], self._forwarded)
            body = await read_body(receive, self._body_limit_bytes)
            reading = self._read(exchange, body)
            if isinstance(reading, Sizing):
                await self._size(exchange, reading)
            elif exchange.options.dry_run:
                await self._dry_run(exchange, reading.call)
            else:
                await self._answer(exchange, reading, scope, receive)
        except ClientGone:
            exchange.status = CLIENT_CLOSED_REQUEST
        except ApiError as error:
            await self._error(exchange, error)
        except RecursionError:  # what could be read need not be writable again, a level or two deeper
            await self._error(exchange, BadRequest("the body is nested too deeply", code="invalid_json"))
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
                wire.name,
                exchange.model,
                exchange.call,
                exchange.answer,
                exchange.error,
                exchange.status,
                self._clock.now_ns() - exchange.started_ns,
                exchange.sending_ns,
            )

    def _read(self, exchange: Exchange, body: bytes) -> Reading | Sizing:
        reading = exchange.wire.read(Arrival(body, exchange.request_id, exchange.started_ns, exchange.options))
        exchange.call = reading.call
        exchange.model = self._service.planner.resolve(reading.call)
        return reading

    async def _size(self, exchange: Exchange, sizing: Sizing) -> None:
        body = openai_wire.encode({**sizing.shape, "input_tokens": self._service.prompt_tokens(sizing.call)})
        await self._send_json(exchange, 200, body, self._headers.undecided(exchange))

    async def _dry_run(self, exchange: Exchange, call: Call) -> None:
        decision = self._service.preview(call)
        body = openai_wire.encode({"object": "turnout.decision", **receipt(decision)})
        await self._send_json(exchange, 200, body, self._headers.decided(exchange, decision))

    async def _answer(self, exchange: Exchange, reading: Reading, scope: Scope, receive: Receive) -> None:
        call = reading.call
        cacheable = exchange.model is not None and self._service.cacheable(call, exchange.model)
        fields = schemas.decode_object(call.body) if cacheable else None
        exchange.cache = "off" if fields is None else "miss"
        with CancelOnDisconnect(scope, receive):
            answer = await self._service.open(call, fields)
            exchange.answer = answer
            opening = Opening(self._ids.answer(), self._clock.wall_ns() // 1_000_000_000, answer.model)
            try:
                if call.stream:
                    last = await self._stream(exchange, answer, reading.stream(opening))
                else:
                    last = await self._collect(exchange, answer, reading.whole(opening))
            finally:
                await answer.aclose()
        if call.stream:
            await exchange.send({"type": "http.response.body", "body": last})
        else:
            await self._send_json(exchange, 200, last, self._headers.answered(exchange, answer, final=True))

    async def _collect(self, exchange: Exchange, answer: Answer, writer: Writer) -> bytes:
        async for event in answer:
            writer.event(event)
        return writer.end(Bill(answer.usage(), answer.cost, answer.energy_j), self._debug(exchange, answer))

    async def _stream(self, exchange: Exchange, answer: Answer, writer: Writer) -> bytes:
        """Writes all but the end, which is returned: that of a whole answer, or an error if the backend failed."""
        exchange.status = 200
        headers = SSE_HEADERS + self._headers.answered(exchange, answer, final=False)
        await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            if begun := writer.begin():
                await exchange.write(_more(begun), self._clock)
            async for event in answer:
                if frame := writer.event(event):
                    await exchange.write(_more(frame), self._clock)
        except ApiError as error:
            return writer.failed(error)
        return writer.end(Bill(answer.usage(), answer.cost, answer.energy_j), self._debug(exchange, answer))

    @staticmethod
    def _debug(exchange: Exchange, answer: Answer) -> Extra | None:
        if not exchange.options.debug:
            return None
        decision = None if answer.decision is None else receipt(answer.decision)
        told = {
            "cache": answer.cache,
            "cache_age_s": answer.age_s,
            "cache_entry": answer.entry,
            "attempts": answer.attempts,
            "decision": decision,
        }
        return {"turnout": told}

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
            last_words = exchange.wire.stream_error(error, exchange.request_id)
            await exchange.send({"type": "http.response.body", "body": last_words})
            return
        body = exchange.wire.error(error, exchange.request_id)
        await self._send_json(exchange, error.status, body, self._headers.failed(exchange, error))

    async def _send_json(self, exchange: Exchange, status: int, body: bytes, headers: Headers) -> None:
        exchange.status = status
        headers.append(JSON)
        headers.append((b"content-length", b"%d" % len(body)))
        await exchange.send({"type": "http.response.start", "status": status, "headers": headers})
        await exchange.send({"type": "http.response.body", "body": body})


def _more(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}
