"""Sections of a live backend: how long it may take, who watches it, who asks it, what process it is."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, field_validator

from app.config.section import Name, PositiveInt, Section

KEPT_HEADERS = frozenset(
    "accept accept-encoding api-key authorization connection content-encoding content-length content-type cookie host "
    "keep-alive proxy-authorization te trailer transfer-encoding upgrade x-api-key x-request-id".split()
)
"""What a client sends to the gateway, or one hop says to the next: never a service's to see."""


def _forwardable(name: str) -> str:
    """Raises: ValueError."""
    if name in KEPT_HEADERS or name.startswith(("x-turnout-", "x-slo-", "x-amz-")):
        raise ValueError("is between the client and the gateway: it is not forwarded")
    return name


HeaderName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64), AfterValidator(_forwardable)]
"""In lower case."""


class TimeoutsConfig(Section):
    """How long a service may take: to be reached, to the first byte of a stream, between bytes, to an answer that is
    not streamed, and to the end of one that is (no limit if absent). A stream whose client has left is
    cut off, or with `drain_s` read on for so long: then its usage is the service's own word, its connection kept."""

    connect_s: float = Field(default=5.0, gt=0, le=600)
    first_byte_s: float = Field(default=60.0, gt=0, le=86400)
    idle_s: float = Field(default=60.0, gt=0, le=86400)
    whole_s: float = Field(default=600.0, gt=0, le=86400)
    stream_s: float | None = Field(default=None, gt=0, le=86400)
    drain_s: float = Field(default=0.0, ge=0, le=600)


def service_url(url: str) -> str:
    """Checked here, so that what stands in it is shown nowhere.

    Raises: ValueError.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_one(parts):
        raise ValueError("needs http:// or https://, a host and, if any, a port from 1 to 65535")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("may have neither credentials (use api_key) nor a query or a fragment")
    if not url.isascii() or any(character <= " " for character in url):
        raise ValueError("may not have spaces or other than ASCII characters")
    return url


class LocalServerConfig(Section):
    """The process of a `kind: local` backend. `weights`: a GGUF file, else the model that `make local` installs;
    `context_tokens` is of each slot."""

    threads: PositiveInt = 1
    slots: PositiveInt = 2
    context_tokens: PositiveInt = 4096
    weights: str | None = None


class AwsConfig(Section):
    """Where and as whom Amazon's services are asked. Without keys they are found as every AWS tool does."""

    region: Name | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = Field(default=None, repr=False)
    session_token: str | None = Field(default=None, repr=False)


def port_is_one(parts: SplitResult) -> bool:
    """Whether a URL has none, or a possible one."""
    try:
        return parts.port != 0
    except ValueError:  # whose text would show what stands there, and that may be a password
        return False


class MonitorConfig(Section):
    """Look after a service: ping it and, given `metrics_url`, read the load that vLLM or SGLang reports there."""

    metrics_url: str | None = None
    interval_s: float = Field(default=5.0, ge=0.1, le=3600)
    timeout_s: float = Field(default=2.0, gt=0, le=60)

    @field_validator("metrics_url")
    @classmethod
    def _usable(cls, url: str | None) -> str | None:
        return None if url is None else service_url(url)
