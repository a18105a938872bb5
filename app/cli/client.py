"""The command line's own HTTP client, and the only module of `app` that knows httpx."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec

from app.cli.sse import StreamReader

# What httpx raises when there is no answer; an address it cannot parse is not among its HTTPErrors.
_NO_ANSWER = (httpx.HTTPError, httpx.InvalidURL)


class CannotReachError(Exception):
    """Nobody answers at that address."""


class RefusedError(Exception):
    """The gateway answered with an error."""

    def __init__(self, status: int, body: Any) -> None:
        message = body.get("error", {}).get("message") if isinstance(body, dict) else None
        super().__init__(f"{status}: {message or body}")
        self.status = status
        problems = body.get("problems") if isinstance(body, dict) else None
        self.problems: list[str] = problems if isinstance(problems, list) else []


@dataclass(slots=True)
class Reply:
    """One measured answer. Times in seconds from the moment the request was sent; None = not observed."""

    status: int = 0
    error: str | None = None
    headers: Mapping[str, str] | None = None
    ttft_s: float | None = None
    e2e_s: float | None = None
    usage: Mapping[str, Any] | None = None


class GatewayClient:
    """Talks to a running gateway."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Any:
        """Raises: CannotReachError; RefusedError."""
        return await self.request("GET", url, None, headers)

    async def post(self, url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Any:
        """Raises: CannotReachError; RefusedError."""
        return await self.request("POST", url, body, headers)

    async def measure(self, url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Reply:
        """Send one chat request and time its answer; failures are part of the reply."""
        reply, began_s = Reply(), time.perf_counter()
        try:
            content = msgspec.json.encode(body)
            async with self._client.stream("POST", url, content=content, headers=dict(headers)) as response:
                reply.status = response.status_code
                reply.headers = response.headers
                if response.status_code != 200:
                    reply.error = _error_code(await response.aread())
                elif body.get("stream"):
                    await _read_stream(response, reply, began_s)
                else:
                    _read_answer(await response.aread(), reply)
            reply.e2e_s = time.perf_counter() - began_s
        except _NO_ANSWER as error:
            reply.error = type(error).__name__
        return reply

    async def request(
        self, method: str, url: str, body: Mapping[str, Any] | None, headers: Mapping[str, str] | None
    ) -> Any:
        """Raises: CannotReachError; RefusedError."""
        try:
            response = await self._client.request(method, url, json=body, headers=dict(headers or {}))
        except _NO_ANSWER as error:
            raise CannotReachError(f"{url}: {error or type(error).__name__}") from error
        try:
            answer = response.json()
        except ValueError:
            raise RefusedError(response.status_code, response.text[:200]) from None
        if response.status_code != 200:
            raise RefusedError(response.status_code, answer)
        return answer


@asynccontextmanager
async def connect(timeout_s: float = 600.0) -> AsyncIterator[GatewayClient]:
    """A client for loopback or a network; no proxy, no limit on connections."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    async with httpx.AsyncClient(timeout=timeout_s, limits=limits, trust_env=False) as client:
        yield GatewayClient(client)


def ask(method: str, url: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None) -> Any:
    """One request from a synchronous command.

    Raises: CannotReachError; RefusedError.
    """

    async def once() -> Any:
        async with connect(30.0) as client:
            return await client.request(method, url, body, headers)

    return asyncio.run(once())


async def _read_stream(response: httpx.Response, reply: Reply, began_s: float) -> None:
    reader = StreamReader()
    try:
        async for piece in response.aiter_raw():
            reader.feed(piece, time.perf_counter() - began_s)
        reader.end()
    finally:
        reply.ttft_s, reply.usage, reply.error = reader.first_text_s, reader.usage, reader.error


def _read_answer(body: bytes, reply: Reply) -> None:
    try:
        reply.usage = msgspec.json.decode(body)["usage"]
    except (msgspec.DecodeError, KeyError, TypeError):
        reply.error = "not_a_completion"


def _error_code(body: bytes) -> str:
    try:
        error = msgspec.json.decode(body)["error"]
        return str(error.get("code") or error.get("type"))
    except (msgspec.DecodeError, KeyError, AttributeError, TypeError):
        return "not_json"
