"""Clients of Redis or Valkey that fail fast: a hard time limit on everything, and no retries of their own.

A URL names one server (`redis://`, `rediss://` with TLS, `unix://`), the sentinels that know which one it is
(`redis+sentinel://host:port,host:port/service/db`), or some nodes of a cluster (`redis+cluster://host:port,host:port`);
`rediss+sentinel://` and `rediss+cluster://` use TLS.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import redis.asyncio as redis_client
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from app.errors import StartupError

FAULTS = (RedisError, OSError, TimeoutError)
"""What an operation may raise that finds no server, or one that is too slow."""

REFUSALS = (ResponseError,)
"""Those of them that a server answers with: it is there."""

DEFAULT_PORT, SENTINEL_PORT = 6379, 26379


def client(url: str, timeout_s: float, max_connections: int, whose: str) -> redis_client.Redis:
    """A client of one server, or of the one that sentinels name; it has not connected yet. `whose` URL it is goes into
    the error.

    Raises: StartupError for a URL that no connection can be made from.
    """
    limits = _limits(timeout_s) | {"max_connections": max_connections}
    try:
        if "+sentinel" in urlsplit(url).scheme:
            return _by_sentinels(urlsplit(url), limits)
        made = redis_client.Redis.from_url(url, **limits)
        made.connection_pool.make_connection()  # type: ignore[no-untyped-call] # options of the URL are looked at only here
    except (ValueError, TypeError) as error:
        raise StartupError(f"{whose} cannot be used: {error}") from None
    return made


class Client:
    """What the cache asks of a server or a cluster, which differ in how many keys are asked for at once."""

    def __init__(self, url: str, timeout_s: float, max_connections: int, whose: str) -> None:
        """Raises: StartupError."""
        self._cluster: Any = None
        if "+cluster" in urlsplit(url).scheme:
            self._cluster = _cluster(urlsplit(url), timeout_s, max_connections, whose)
        self.redis: Any = self._cluster or client(url, timeout_s, max_connections, whose)

    async def many(self, keys: list[bytes]) -> list[bytes | None]:
        """The values of these keys, in order."""
        if len(keys) == 1:
            return [await self.redis.get(keys[0])]
        found = await (self.redis.mget(keys) if self._cluster is None else self.redis.mget_nonatomic(keys))
        return list(found)

    async def unlink_all(self, keys: list[bytes]) -> None:
        """Forget these keys; a cluster is asked for one after the other, since they live at different nodes."""
        if self._cluster is None and keys:
            await self.redis.unlink(*keys)
        elif keys:
            for key in keys:
                await self.redis.unlink(key)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the same for both."""
        return getattr(self.redis, name)


def _limits(timeout_s: float) -> dict[str, Any]:
    return {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
    }


def _by_sentinels(parts: SplitResult, limits: dict[str, Any]) -> redis_client.Redis:
    service, _, database = parts.path.strip("/").partition("/")
    options = dict(parse_qsl(parts.query))
    theirs = {
        name: options.pop(f"sentinel_{name}") for name in ("username", "password") if f"sentinel_{name}" in options
    }
    timeouts = {name: value for name, value in limits.items() if name != "max_connections"}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        hosts(parts, SENTINEL_PORT),
        sentinel_kwargs={**timeouts, **theirs, "ssl": parts.scheme.startswith("rediss")},
        db=int(database or 0),
        ssl=parts.scheme.startswith("rediss"),
        **limits,
        **_credentials(parts),
        **options,
    )
    made: redis_client.Redis = sentinel.master_for(service)
    return made


def _cluster(parts: SplitResult, timeout_s: float, max_connections: int, whose: str) -> RedisCluster:
    try:
        options: dict[str, Any] = {**_limits(timeout_s), **_credentials(parts), **dict(parse_qsl(parts.query))}
        return RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in hosts(parts, DEFAULT_PORT)],
            max_connections=max_connections,
            ssl=parts.scheme.startswith("rediss"),
            **options,
        )
    except (ValueError, TypeError, RedisError) as error:
        raise StartupError(f"{whose} cannot be used: {error}") from None


def hosts(parts: SplitResult, default_port: int) -> list[tuple[str, int]]:
    """The (host, port) pairs of a URL that may name several.

    Raises: ValueError.
    """
    listed = parts.netloc.rpartition("@")[2].split(",")
    return [(one.hostname or "", one.port or default_port) for one in (urlsplit(f"//{each}") for each in listed)]


def _credentials(parts: SplitResult) -> dict[str, str]:
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    told = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in told.items() if value}
