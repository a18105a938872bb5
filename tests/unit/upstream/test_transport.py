"""The one HTTP client against sockets that misbehave: every failure is an error of ours, in time."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from backends.errors import (
    BackendConfigError,
    BackendError,
    BackendTimeout,
    Saturated,
    StreamCut,
    Unavailable,
    Unreachable,
)
from backends.upstream.transport import HttpxTransport, Limits, Request

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SELF_SIGNED = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgKL+w9P9nrGKpJAML
Q2z8Wh2GlvDj5RuFjEEUihdj1yShRANCAASv8vCNdq5Smn09fMyyCVABmzSBFxMl
oNhqrLMnN8860G8PEJ92rZkZAlrYupQJyc4MxEoGj8+GtwK4JrJxKdOz
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBmjCCAUGgAwIBAgIUeY6qwkVh4V2Xd+pPB0zTy61M9XkwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNzA1NDc0M1oYDzIxMjYxMTAz
MDU0NzQzWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASv8vCNdq5Smn09fMyyCVABmzSBFxMloNhqrLMnN8860G8PEJ92rZkZ
AlrYupQJyc4MxEoGj8+GtwK4JrJxKdOzo28wbTAdBgNVHQ4EFgQU1575ZlsgPhOY
Vrv03Et3rc0kBd0wHwYDVR0jBBgwFoAU1575ZlsgPhOYVrv03Et3rc0kBd0wDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDRwAwRAIgawsOv71QMEWo66f+kMNUMXi48djDFpl2JhCVHvKp27YCIG6E
0sSbml9LUSlGcnVM2Vionk1JT4eYdaadExv82Za5
-----END CERTIFICATE-----
"""
"""A key and a certificate for 127.0.0.1, made for these tests."""

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@contextlib.asynccontextmanager
async def serving(handler: Handler, **limits: float) -> AsyncIterator[tuple[HttpxTransport, str]]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await handler(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    transport = HttpxTransport("up", url, Limits(**{"connect_s": 0.3, "idle_s": 0.2, **limits}))  # type: ignore[arg-type]
    try:
        yield transport, url
    finally:
        await transport.aclose()
        server.close()


def get(url: str, first_byte_s: float = 0.3) -> Request:
    return Request("GET", f"{url}/v1/models", {}, b"", first_byte_s)


async def failure(transport: HttpxTransport, request: Request) -> BackendError:
    with pytest.raises(BackendError) as caught:
        async with asyncio.timeout(3):
            response = await transport.send(request)
            try:
                while await response.read():
                    pass
            finally:
                await response.aclose()
    return caught.value


async def test_pieces_come_as_they_are_sent_and_the_connection_is_used_again() -> None:
    connections = set()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        for _ in range(2):
            writer.write(HEAD + b"2\r\nab\r\n")
            await writer.drain()
            writer.write(b"1\r\nc\r\n0\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")

    async with serving(handler) as (transport, url):
        for _ in range(2):
            response = await transport.send(get(url))
            assert (response.status, response.headers["content-type"]) == (200, "text/event-stream")
            body = b""
            while piece := await response.read():
                body += piece
            await response.aclose()
            assert body == b"abc"
        assert len(connections) == 1


@pytest.mark.parametrize(
    ("sent", "kind", "says"),
    [
        (b"", Unavailable, "did not answer"),
        (b"nonsense\r\n\r\n", Unavailable, "did not answer"),
        (HEAD, StreamCut, "broke off"),
        (HEAD + b"5\r\nab", StreamCut, "broke off"),
        (HEAD + b"zz\r\n", StreamCut, "broke off"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab", StreamCut, "broke off"),
    ],
)
async def test_what_breaks_becomes_ours(sent: bytes, kind: type[BackendError], says: str) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)

    async with serving(handler) as (transport, url):
        error = await failure(transport, get(url))
        assert type(error) is kind
        assert says in str(error)


@pytest.mark.parametrize("sent", [b"HTTP/1.1 200 OK\r\nauthorization : Bearer sk-1\r\n\r\n", HEAD + b"Bearer sk-1\r\n"])
async def test_what_is_no_http_is_not_quoted(sent: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)

    async with serving(handler) as (transport, url):
        error = await failure(transport, get(url))
        assert ": illegal " in str(error)
        assert "sk-1" not in str(error)


@pytest.mark.parametrize(
    ("sent", "seconds"), [(b"", "0.3"), (HEAD, "0.3"), (HEAD + b"2\r\nab\r\n", "0.2")], ids=["head", "first", "idle"]
)
async def test_silence_ends_in_time(sent: bytes, seconds: str) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await reader.read()

    async with serving(handler) as (transport, url):
        error = await failure(transport, get(url))
        assert type(error) is BackendTimeout
        assert f"within {seconds} s" in str(error)


async def test_too_many_at_once_are_refused_as_by_a_full_queue() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(handler, max_connections=1, connect_s=0.1) as (transport, url):
        waiting = asyncio.create_task(failure(transport, get(url)))
        await asyncio.sleep(0.02)
        assert type(await failure(transport, get(url))) is Saturated
        assert type(await waiting) is BackendTimeout
        assert type(await failure(transport, get(url))) is BackendTimeout, "the place is free again"
        cancelled = asyncio.create_task(transport.send(get(url)))
        await asyncio.sleep(0.02)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        assert type(await failure(transport, get(url))) is BackendTimeout


async def test_closing_early_is_heard_at_the_other_end() -> None:
    heard = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"2\r\nab\r\n")
        await reader.read()
        heard.set()

    async with serving(handler, idle_s=5.0) as (transport, url):
        response = await transport.send(get(url))
        assert await response.read() == b"ab"
        await response.aclose()
        await response.aclose()
        async with asyncio.timeout(2):
            await heard.wait()


async def test_nobody_there_and_no_such_host() -> None:
    transport = HttpxTransport("up", "http://127.0.0.1:9", Limits(connect_s=0.3))
    assert "no connection to up" in str(await failure(transport, get("http://127.0.0.1:9")))
    await transport.aclose()


async def test_a_name_that_nobody_knows() -> None:
    transport = HttpxTransport("up", "http://nobody.invalid", Limits(connect_s=2), {})
    error = await failure(transport, get("http://nobody.invalid", 3))
    assert isinstance(error, Unreachable)
    assert "no connection to up" in str(error)
    await transport.aclose()


@pytest.mark.parametrize("trusted", [False, None])
async def test_a_tls_failure_says_what_it_is(tmp_path: Path, trusted: bool | None) -> None:
    """A certificate that nobody vouches for; or a server that does not speak TLS at all (None)."""
    context = None
    if trusted is not None:
        (tmp_path / "own.pem").write_text(SELF_SIGNED)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "own.pem")

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    transport = HttpxTransport("up", url, Limits(connect_s=2))
    error = await failure(transport, get(url, 3))
    assert isinstance(error, Unreachable)
    assert ("CERTIFICATE_VERIFY_FAILED" if context else "SSL") in str(error)
    await transport.aclose()
    server.close()


async def test_an_authority_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.pem").write_text(SELF_SIGNED)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    transport = HttpxTransport("up", url, Limits(connect_s=2))
    response = await transport.send(get(url, 3))
    assert response.status == 204
    await response.aclose()
    await transport.aclose()
    server.close()


async def test_a_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    monkeypatch.setenv("NO_PROXY", "elsewhere")
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    transport = HttpxTransport("up", "http://service.invalid", Limits())
    response = await transport.send(get("http://service.invalid", 3))
    assert response.status == 204
    assert asked[0].startswith(b"GET http://service.invalid/v1/models HTTP/1.1\r\n")
    await response.aclose()
    await transport.aclose()
    server.close()


def test_a_proxy_that_is_none_is_refused() -> None:
    with pytest.raises(BackendConfigError, match="proxy"):
        HttpxTransport("up", "http://service.invalid", Limits(), {"http_proxy": "gopher://x"})


async def test_redirects_are_not_followed_nor_a_proxy_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n")

    async with serving(handler) as (transport, url):
        response = await transport.send(get(url))
        assert response.status == 302
        await response.aclose()


async def test_a_cookie_is_not_sent_back_with_somebody_elses_request() -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nset-cookie: tenant=a; Path=/\r\ncontent-length: 0\r\n\r\n")
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with serving(handler) as (transport, url):
        for _ in range(2):
            response = await transport.send(get(url))
            while await response.read():
                pass
            await response.aclose()
    assert b"cookie" not in seen[0].lower()


async def test_a_stream_that_goes_on_for_ever_is_ended() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"2\r\nab\r\n")
                await writer.drain()
                await asyncio.sleep(0.02)

    async with serving(handler) as (transport, url):
        error = await failure(transport, get(url)._replace(stream=True, total_s=0.3))
        assert isinstance(error, BackendTimeout)
        assert "not done within its stream_s" in str(error)
