"""The configuration of caches, and of the Redis that they and gateways share."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from typing import Annotated, Literal
from urllib.parse import SplitResult, parse_qs, urlsplit

from pydantic import Field, field_validator

from app.config.live import port_is_one
from app.config.section import Name, PositiveInt, Section

LONGEST_TTL_S = 30 * 24 * 3600.0
CacheSeconds = Annotated[float, Field(gt=0, le=LONGEST_TTL_S)]


class CacheOff(Section):
    """No response cache."""

    type: Literal["off"]


class CacheRule(Section):
    """Which answers to a model's requests are cached, and for how long; what is not said is as under `cache`."""

    when: Literal["off", "deterministic", "always"] | None = None
    ttl_s: CacheSeconds | None = None
    stale_s: CacheSeconds | None = None


class CacheWhen(Section):
    """What both caches share. `deterministic` stores only answers to requests with `temperature: 0` or a `seed`; for
    `stale_s` past its time an answer is given once more while a new one is made."""

    when: Literal["deterministic", "always"] = "deterministic"
    ttl_s: CacheSeconds = 3600.0
    stale_s: Annotated[float, Field(ge=0, le=LONGEST_TTL_S)] = 0.0
    max_value_bytes: PositiveInt = 1024 * 1024
    compress: bool = True
    coalesce: bool = True
    max_followers: PositiveInt = 1000


class MemoryCache(CacheWhen):
    """In this process, bounded by bytes."""

    type: Literal["memory"]
    max_bytes: PositiveInt = 64 * 1024 * 1024


REDIS_URL = r"^((redis|rediss)(\+(sentinel|cluster))?|unix)://"
REDIS_ALONE_URL = r"^((redis|rediss)(\+sentinel)?|unix)://"
REDIS_URL_OPTIONS = frozenset(
    "db username password protocol "
    "ssl_cert_reqs ssl_ca_certs ssl_ca_path ssl_certfile ssl_keyfile ssl_check_hostname".split()
)
SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})
KEY_BYTES = 32


def redis_url(url: str) -> str:
    """The client library looks at most of this only when it connects, which is too late to say so.

    Raises: ValueError.
    """
    parts = urlsplit(url)
    kind = parts.scheme.partition("+")[2]
    if parts.scheme != "unix":
        _check_hosts(parts, many=bool(kind))
    if kind == "sentinel" and not re.fullmatch(r"/[^/]+(/\d*)?", parts.path):
        raise ValueError("the path must be the service that sentinels know, and may have a database's number")
    if kind == "cluster" and parts.path not in ("", "/"):
        raise ValueError("a cluster has one database: the path must be empty")
    if not kind and parts.scheme != "unix" and not re.fullmatch(r"(/\d*)?", parts.path):
        raise ValueError("the path must be a database's number")
    known = REDIS_URL_OPTIONS | (SENTINEL_OPTIONS if kind == "sentinel" else set())
    unknown = set(parse_qs(parts.query, keep_blank_values=True)) - known
    if unknown:
        raise ValueError(f"unknown options in the URL: {', '.join(sorted(unknown))}")
    return url


def _check_hosts(parts: SplitResult, *, many: bool) -> None:
    listed = parts.netloc.rpartition("@")[2].split(",")
    if len(listed) > 1 and not many:
        raise ValueError("several hosts need redis+sentinel:// or redis+cluster://")
    for each in (urlsplit(f"//{one}") for one in listed):
        if not each.hostname or not port_is_one(each):
            raise ValueError("needs a host and, if any, a port from 1 to 65535")


def encryption_key(text: str) -> bytes:
    """The key that a configuration tells in base64.

    Raises: ValueError.
    """
    try:
        key = b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError("must be 32 bytes in base64 (openssl rand -base64 32)")
    return key


class RedisCache(CacheWhen):
    """Shared between processes, with memory in front of it. Past `timeout_ms` a lookup counts as a miss; Redis gone
    never fails a request. What memory holds may be given for `memory_ttl_s` after another process removed it."""

    type: Literal["redis"]
    url: str = Field(pattern=REDIS_URL, repr=False)
    timeout_ms: float = Field(default=50.0, gt=0, le=1000)
    key_prefix: Name = "turnout"
    memory_max_bytes: Annotated[int, Field(ge=0)] = 64 * 1024 * 1024
    memory_ttl_s: CacheSeconds = 60.0
    encryption_keys: tuple[str, ...] = Field(default=(), repr=False)

    @field_validator("url")
    @classmethod
    def _usable(cls, url: str) -> str:
        return redis_url(url)

    @field_validator("encryption_keys")
    @classmethod
    def _are_keys(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        for key in keys:
            encryption_key(key)
        return keys


Cache = Annotated[CacheOff | MemoryCache | RedisCache, Field(discriminator="type")]
