"""Is a service there, does it know who asks, and does it have the models? For `turnout check --live`.

A ping, as the monitor sends it, but told in full. Nothing is generated, so nothing is billed.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec

from backends.clock import Clock
from backends.errors import BackendError, BackendTimeout, StreamCut
from backends.types import LiveSpec
from backends.upstream.build import dialect_of
from backends.upstream.dialects.refusals import shown
from backends.upstream.transport import HttpxTransport, Limits, Request, Response, Transport

MAX_BYTES = 4 * 1024 * 1024


class Found(NamedTuple):
    """What a ping came to. `models` are those that the service lists, None if it lists none; `missing` are configured
    and not among them."""

    ok: bool
    said: str
    seconds: float
    models: tuple[str, ...] | None = None
    missing: tuple[str, ...] = ()


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


_decode = msgspec.json.Decoder(_Models).decode


async def probe(spec: LiveSpec, clock: Clock, timeout_s: float, transport: Transport | None = None) -> Found:
    """Ask once, within `timeout_s`; never raises for what the service does. `transport` stands in for httpx."""
    limits = Limits(min(spec.timeouts.connect_s, timeout_s), timeout_s, 1)
    used = transport or HttpxTransport(spec.name, spec.url, limits)
    started_ns = clock.now_ns()
    try:
        async with asyncio.timeout(timeout_s):
            found = await _ask(spec, clock, used, timeout_s)
    except TimeoutError:
        found = Found(False, f"no answer within {timeout_s:g} s", 0.0)
    except BackendError as error:
        found = Found(False, str(error), 0.0)
    finally:
        await used.aclose()
    return found._replace(seconds=(clock.now_ns() - started_ns) / 1e9)


async def _ask(spec: LiveSpec, clock: Clock, transport: Transport, timeout_s: float) -> Found:
    dialect, _ = dialect_of(spec)
    asked = dialect.ping(clock.wall_ns() / 1e9)
    response = await transport.send(Request(asked.method, asked.url, asked.headers, asked.body, timeout_s))
    try:
        body = await _body(response)
    finally:
        await response.aclose()
    if response.status in (401, 403):
        return Found(False, f"answered {response.status}: it refuses the credentials", 0.0)
    if not dialect.alive(response.status):
        said = shown(body.decode("utf-8", "replace").strip(), spec.api_key)[:200]
        return Found(False, f"answered {response.status} at {asked.url}: {said or 'without a word'}", 0.0)
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/html":
        return Found(False, f"answered with a web page at {asked.url}: that is no API", 0.0)
    if response.status != 200 or not dialect.lists_models:
        return Found(True, "answers; it does not list its models", 0.0)
    return _listed(spec, body)


def _listed(spec: LiveSpec, body: bytes) -> Found:
    try:
        models = tuple(model.id for model in _decode(body).data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Found(False, "answered with what is no list of models: that is another API", 0.0)
    wanted = [each.upstream_model or each.model for each in spec.deployments]
    missing = tuple(name for name in wanted if name not in models)
    return Found(True, f"answers; models listed: {len(models)}", 0.0, models, missing)


async def _body(response: Response) -> bytes:
    pieces, size = [], 0
    try:
        while size < MAX_BYTES and (piece := await response.read()):
            pieces.append(piece)
            size += len(piece)
    except (BackendTimeout, StreamCut):
        pass  # the status has said most of it
    return b"".join(pieces)
