"""One generation for several processes: a short lease in Redis, and a stream of what its holder's backend says.

Who gets the lease (`<prefix>:2l:<digest>`) generates, and writes events to a stream of its own (`<prefix>:2s:<token>`,
the token being the lease's value) many times a second. The others read that. A holder that stops, or dies, loses the
lease; whoever notices first takes it and generates anew. Redis gone means that each process generates for itself.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from typing import Any

import msgspec

from app.cache.redis import RedisStore
from app.cache.shared import Boarded, End, GenerationFailed, HolderGone
from backends.types import ChoiceEnd, Event, FinishReason, Thought, TokenChunk, ToolCallPart

LEASE_MS = 3000
TICK_S = 0.05
RENEW_TICKS = 10
STREAM_MS = 60_000
MOST_READ = 1000
PATIENCE = 3
"""So many questions without an answer, and Redis is taken for gone."""

EVENTS, END, FAILED = b"v", b"e", b"f"
_RENEW = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end return 0"
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


class _Sent(msgspec.Struct, array_like=True):
    """An event of either kind."""

    index: int
    text: str | None = None
    tokens: int = 0
    raw: bytes | None = None
    plain: bool = True
    tool: ToolCallPart | None = None
    thought: Thought | None = None
    reason: FinishReason | None = None
    stop: str | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode_events = msgspec.msgpack.Decoder(list[_Sent]).decode
_decode_end = msgspec.msgpack.Decoder(End).decode


class RedisRelay:
    """Leases on one Redis."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    async def board(self, name: bytes) -> Boarded:
        """The lease of this name, or its holder's stream; neither if Redis does not answer."""
        token = secrets.token_hex(16).encode()
        lease = self._store.named(b"l:" + name)
        for _ in range(PATIENCE):
            got = await self._store.ask(lambda: self._store.client.set(lease, token, nx=True, px=LEASE_MS))
            if got:
                return Boarded(publisher=RedisPublisher(self._store, lease, token))
            holder = await self._store.ask(lambda: self._store.client.get(lease))
            if isinstance(holder, bytes):
                return Boarded(follower=RedisFollower(self._store, lease, holder))
        return Boarded()


class RedisPublisher:
    """Writes what the holder of a lease generates, in a task of its own, so that nobody waits for it."""

    def __init__(self, store: RedisStore, lease: bytes, token: bytes) -> None:
        self._store = store
        self._lease = lease
        self._token = token
        self._stream = store.named(b"s:" + token)
        self._waiting: list[Event] = []
        self._last: tuple[bytes, bytes] | None = None
        self._over = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._publish())

    def hear(self, event: Event) -> None:
        """The next event."""
        self._waiting.append(event)

    def end(self, end: End) -> None:
        """It is whole. The lease runs out by itself: by then the answer is in the cache."""
        self._finish((END, _encode(end)))

    def failed(self, message: str) -> None:
        """It failed."""
        self._finish((FAILED, message.encode()))

    async def aclose(self) -> None:
        """Nothing more is coming; if that was not the end, somebody else may begin anew."""
        self._over.set()
        await asyncio.wait([self._task])

    def _finish(self, last: tuple[bytes, bytes]) -> None:
        self._last = last
        self._over.set()

    async def _publish(self) -> None:
        ticks, over = 0, False
        while not over:
            try:
                async with asyncio.timeout(TICK_S):
                    await self._over.wait()
            except TimeoutError:
                ticks += 1
            over = self._over.is_set()
            await self._write(renew=over or ticks % RENEW_TICKS == 0, last=self._last if over else None)
        if self._last is None or self._last[0] == FAILED:
            await self._store.ask(lambda: self._store.client.eval(_RELEASE, 1, self._lease, self._token))

    async def _write(self, *, renew: bool, last: tuple[bytes, bytes] | None) -> None:
        waiting, self._waiting = self._waiting, []
        fields = dict([last] if last is not None else ())
        if waiting:
            fields[EVENTS] = _encode([_sent(event) for event in waiting])
        client = self._store.client
        if fields:
            await self._store.ask(lambda: client.xadd(self._stream, fields))
            await self._store.ask(lambda: client.pexpire(self._stream, STREAM_MS))
        if renew:
            await self._store.ask(lambda: client.eval(_RENEW, 1, self._lease, self._token, LEASE_MS))


class RedisFollower:
    """Reads what the holder of a lease writes."""

    def __init__(self, store: RedisStore, lease: bytes, token: bytes) -> None:
        self._store = store
        self._lease = lease
        self._token = token
        self._stream = store.named(b"s:" + token)
        self._after = b"0"
        self.end: End | None = None

    async def more(self) -> list[Event]:
        """What came since; empty once the answer is whole (`end`).

        Raises: HolderGone; GenerationFailed.
        """
        silent = 0
        while self.end is None:
            held = await self._store.ask(lambda: self._store.client.get(self._lease))
            found = await self._store.ask(
                lambda: self._store.client.xread({self._stream: self._after}, count=MOST_READ)
            )
            events = self._take(found)
            if events or self.end is not None:
                return events
            silent = silent + 1 if found is None else 0
            # The lease was asked for first: a holder that ended between the two questions has written its end.
            if held != self._token and (found is not None or silent >= PATIENCE):
                raise HolderGone
            await asyncio.sleep(TICK_S)
        return []

    def _take(self, found: Any) -> list[Event]:
        events: list[Event] = []
        for _, entries in _streams(found):
            for identifier, fields in entries:
                self._after = identifier
                if EVENTS in fields:
                    events += map(_event, _decode_events(fields[EVENTS]))
                if FAILED in fields:
                    raise GenerationFailed(fields[FAILED].decode("utf-8", "replace"))
                if END in fields:
                    self.end = _decode_end(fields[END])
        return events


def _streams(found: Any) -> Iterable[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]:
    """Both shapes that a client may give a reply of XREAD: a list of pairs, or a mapping."""
    if not found:
        return ()
    if isinstance(found, dict):
        return [
            (name, entries[0] if entries and isinstance(entries[0], list) else entries)
            for name, entries in found.items()
        ]
    return list(found)


def _sent(event: Event) -> _Sent:
    if type(event) is ChoiceEnd:
        return _Sent(event.index, raw=event.raw, reason=event.reason, stop=event.stop)
    assert type(event) is TokenChunk
    return _Sent(event.index, event.text, event.tokens, event.raw, event.plain, event.tool, event.thought)


def _event(sent: _Sent) -> Event:
    if sent.reason is not None:
        return ChoiceEnd(sent.index, sent.reason, sent.raw, sent.stop)
    return TokenChunk(sent.index, sent.text or "", sent.tokens, sent.raw, sent.plain, sent.tool, sent.thought)
