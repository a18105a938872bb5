"""The one way to a real service: `send(request) -> response`. httpx behind it, and a fake that does as it is told.

A response is read piece by piece; closing it before its end closes the connection, which is how an upstream learns
that nobody listens any more. Redirects are not followed. A proxy that the environment
names is used (`proxies.py`). What httpx raises ends here and becomes an error of `backends.errors`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import NamedTuple, Protocol

import httpx

from backends.errors import (
    BackendConfigError,
    BackendError,
    BackendTimeout,
    Saturated,
    StreamCut,
    Unavailable,
    Unreachable,
)
from backends.upstream.proxies import proxy_of

SSE_HEADERS: Mapping[str, str] = {"content-type": "text/event-stream"}
KEPT_ALIVE = 64
KEEPALIVE_S = 4.0
"""Idle connections are dropped before the service does it: uvicorn's (so vLLM's and SGLang's) patience is 5 s, and a
request that crosses its closing is lost."""

STREAM_BUFFER = (socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024)
"""What the kernel may hold of a stream before its service is slowed down (Linux takes it twice). Left alone it is
megabytes, read in pieces of 250 kB: a thousand clients that read slowly took 600 MB (tests/integration/
test_slow_streams.py). Answers in one piece come as fast as the network can."""

POOL_RETRY_AFTER_S = 1.0


class Request(NamedTuple):
    """What is sent. The first byte of the answer's body must come within `first_byte_s`, its last within `total_s`
    (None: whenever); a `stream` is read as slowly as it is wanted."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    first_byte_s: float
    stream: bool = False
    total_s: float | None = None


class Response(Protocol):
    """An answer under way; header names are in lower case."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    async def read(self) -> bytes:
        """The next piece of the body; b"" at its end.

        Raises: BackendTimeout; StreamCut.
        """
        ...

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body was not read to its end. Idempotent."""
        ...


class Transport(Protocol):
    """A client of one service."""

    async def send(self, request: Request) -> Response:
        """An answer whose status and headers are there.

        Raises: Unavailable; BackendTimeout; Saturated when all connections are taken.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait for what, in seconds, and how many connections to have at a time."""

    connect_s: float = 5.0
    idle_s: float = 60.0
    max_connections: int = 1024
    kept_alive: int = KEPT_ALIVE
    """Idle connections that are kept for later; 0 = each request has one of its own."""


class HttpxTransport:
    """Connections to one service, made with httpx. Create it inside the event loop that will use it.

    Requests beyond the limit of connections are refused here: httpx would queue them, at a cost that grows with the
    square of their number (600 at a time took a minute of CPU).
    """

    def __init__(self, name: str, url: str, limits: Limits, environment: Mapping[str, str] | None = None) -> None:
        """`environment` stands in for the process's, which may name a proxy.

        Raises: BackendConfigError for a proxy that is none.
        """
        self._name = name
        self._limits = limits
        self._open = 0
        # Reading certificates takes 20 ms, and an http:// service shows none: there, TLS would simply fail.
        verify = True if url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        proxy = proxy_of(url, os.environ if environment is None else environment)
        try:
            self._streams = _client(verify, proxy, limits, [STREAM_BUFFER])
            self._wholes = _client(verify, proxy, limits, [])
        except (ValueError, httpx.InvalidURL) as error:
            raise BackendConfigError(
                f"the proxy that the environment names for {url} cannot be used: {error}"
            ) from None

    async def send(self, request: Request) -> HttpxResponse:
        """Raises: Unavailable; BackendTimeout; Saturated."""
        limit = self._limits.max_connections
        if self._open >= limit:
            raise Saturated(f"all {limit} connections to {self._name} are taken", POOL_RETRY_AFTER_S)
        self._open += 1
        try:
            return await self._send(request)
        except BaseException:  # cancelled or failed, there is no response whose closing would count
            self._open -= 1
            raise

    async def _send(self, request: Request) -> HttpxResponse:
        now_s = asyncio.get_running_loop().time()
        deadline_s = now_s + request.first_byte_s
        headers = {**request.headers, "accept-encoding": "identity"}
        client = self._streams if request.stream else self._wholes
        built = client.build_request(request.method, request.url, content=request.body, headers=headers)
        try:
            async with asyncio.timeout_at(deadline_s):
                response = await client.send(built, stream=True)
        except TimeoutError:
            raise BackendTimeout(f"{self._name} sent no byte within {request.first_byte_s:g} s") from None
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unreachable(f"no connection to {self._name}: {_text(error)}") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"{self._name} did not answer: {_text(error)}") from error
        last_s = None if request.total_s is None else now_s + request.total_s
        return HttpxResponse(self, response, deadline_s, request.first_byte_s, last_s)

    async def aclose(self) -> None:
        await self._streams.aclose()
        await self._wholes.aclose()

    @property
    def name(self) -> str:
        """Whose connections these are."""
        return self._name

    @property
    def idle_s(self) -> float:
        """How long a response may be silent."""
        return self._limits.idle_s

    def closed(self) -> None:
        """A response has given its connection back."""
        self._open -= 1


class HttpxResponse:
    """An answer that httpx reads."""

    def __init__(
        self,
        transport: HttpxTransport,
        response: httpx.Response,
        deadline_s: float,
        first_byte_s: float,
        last_s: float | None,
    ) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._transport = transport
        self._name = transport.name
        self._response = response
        self._pieces: AsyncIterator[bytes] = response.aiter_raw()
        self._deadline_s: float | None = deadline_s
        self._first_byte_s = first_byte_s
        self._last_s = last_s
        self._idle_s = transport.idle_s
        self._closed = False

    async def read(self) -> bytes:
        """Raises: BackendTimeout; StreamCut."""
        deadline_s, self._deadline_s = self._deadline_s, None
        waited_s = self._idle_s if deadline_s is None else self._first_byte_s
        until_s = deadline_s or asyncio.get_running_loop().time() + self._idle_s
        last_s = self._last_s
        try:
            async with asyncio.timeout_at(until_s if last_s is None else min(until_s, last_s)):
                return await anext(self._pieces, b"")
        except TimeoutError:
            if last_s is not None and last_s <= until_s:
                raise BackendTimeout(f"{self._name} was not done within its stream_s") from None
            raise BackendTimeout(f"{self._name} sent no byte within {waited_s:g} s") from None
        except httpx.HTTPError as error:
            raise StreamCut(f"{self._name} broke off: {_text(error)}") from error

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            await self._response.aclose()
        finally:
            self._transport.closed()


def _client(
    verify: ssl.SSLContext | bool, proxy: str | None, limits: Limits, socket_options: list[tuple[int, int, int]]
) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(
            verify=verify,
            proxy=proxy,
            trust_env=True,  # SSL_CERT_FILE and SSL_CERT_DIR; proxies are no matter of the transport
            limits=httpx.Limits(
                max_connections=None,
                max_keepalive_connections=limits.kept_alive,
                keepalive_expiry=KEEPALIVE_S,
            ),
            socket_options=socket_options,
        ),
        trust_env=False,
        follow_redirects=False,
        # One client serves every tenant: a cookie kept here would go out with somebody else's request.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        timeout=httpx.Timeout(None, connect=limits.connect_s),
    )


def _text(error: Exception) -> str:
    text = str(error) or type(error).__name__
    # "illegal header line: ..." quotes what came, which may be a key sent back, and this reaches clients.
    return text.partition(": ")[0] if text.startswith("illegal ") else text


# The fake that ships: the same seam, no socket.


@dataclass(frozen=True, slots=True)
class FakeReply:
    """What a fake answers: `error` instead of an answer; else a status, and pieces, of which an exception is raised
    in its turn. With `hangs`, what would be the end never comes; who waits for it hears when the response is closed."""

    pieces: Sequence[bytes | BackendError] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: SSE_HEADERS)
    error: BackendError | None = None
    hangs: bool = False


class FakeResponse:
    """Plays a reply."""

    def __init__(self, transport: FakeTransport, reply: FakeReply) -> None:
        self.status = reply.status
        self.headers = reply.headers
        self._transport = transport
        self._reply = reply
        self._pieces = iter(reply.pieces)
        self._closed = asyncio.Event()

    async def read(self) -> bytes:
        """Raises: whatever error is next among the pieces."""
        await asyncio.sleep(0)
        piece = next(self._pieces, None)
        if piece is None and self._reply.hangs:
            await self._closed.wait()
            raise StreamCut("closed while it was read")
        if isinstance(piece, BackendError):
            raise piece
        return piece or b""

    async def aclose(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            self._transport.open -= 1


class FakeTransport:
    """Answers each request as `respond` says and remembers it; `open` counts responses not yet closed."""

    def __init__(self, respond: Callable[[Request], FakeReply]) -> None:
        self.requests: list[Request] = []
        self.open = 0
        self.closed = False
        self._respond = respond

    async def send(self, request: Request) -> FakeResponse:
        """Raises: the reply's error."""
        self.requests.append(request)
        await asyncio.sleep(0)
        reply = self._respond(request)
        if reply.error is not None:
            raise reply.error
        self.open += 1
        return FakeResponse(self, reply)

    async def aclose(self) -> None:
        self.closed = True
