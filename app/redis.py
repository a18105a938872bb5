"""Clients of Redis or Valkey that fail fast: a hard time limit on everything, and no retries of their own."""

from __future__ import annotations

import redis.asyncio as redis_client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.errors import StartupError

FAULTS = (RedisError, OSError, TimeoutError)
"""What an operation may raise that finds no server, or one that is too slow."""


def client(url: str, timeout_s: float, max_connections: int, whose: str) -> redis_client.Redis:
    """A client that has not connected yet; `whose` URL it is goes into the error.

    Raises: StartupError for a URL that no connection can be made from.
    """
    try:
        made = redis_client.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            max_connections=max_connections,
        )
        made.connection_pool.make_connection()  # type: ignore[no-untyped-call] # options of the URL are looked at only here
    except (ValueError, TypeError) as error:
        raise StartupError(f"{whose} cannot be used: {error}") from None
    return made
