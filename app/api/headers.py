"""Request headers a client may steer with, parsed and bounded; what is wrong is a 400 that names the header."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import cast

from app.call import NO_OPTIONS, CacheMode, Options
from app.errors import BadRequest

_REQUEST_ID = re.compile(r"^[A-Za-z0-9_-]{1,128}$")
_TAG = re.compile(r"^[A-Za-z0-9_.:/-]{1,64}$")
_TRACEPARENT = re.compile(r"^(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-|$)")
_MAX_TAGS = 16
OURS = (b"x-slo-", b"x-turnout-", b"traceparent")
SHORTEST_PROMISE_MS = 0.001
LONGEST_SESSION = 256


def parse(raw: Iterable[tuple[bytes, bytes]]) -> Options:
    """The options among ASGI headers.

    Raises: BadRequest.
    """
    ours = {name: value.decode("latin-1").strip() for name, value in raw if name.startswith(OURS)}
    if not ours:
        return NO_OPTIONS
    texts = {name.decode("latin-1"): value for name, value in ours.items()}
    return Options(
        slo_ttft_s=_milliseconds(texts, "x-slo-ttft-ms"),
        slo_tpot_s=_milliseconds(texts, "x-slo-tpot-ms"),
        slo_e2e_s=_milliseconds(texts, "x-slo-e2e-ms"),
        policy=texts.get("x-turnout-policy") or None,
        max_cost_usd=_positive(texts, "x-turnout-max-cost-usd"),
        cache=_cache_mode(texts.get("x-turnout-cache")),
        tags=_tags(texts.get("x-turnout-tags")) | _trace(texts.get("traceparent")) or None,
        debug=_flag(texts, "x-turnout-debug"),
        dry_run=_flag(texts, "x-turnout-dry-run"),
        session=_session(texts.get("x-turnout-session")),
    )


def client_request_id(value: str | None) -> str | None:
    """A client's own request id, if it is one we can echo safely."""
    return value if value and _REQUEST_ID.match(value) else None


def _milliseconds(texts: Mapping[str, str], name: str) -> float | None:
    value = _positive(texts, name)
    if value is not None and value < SHORTEST_PROMISE_MS:
        raise BadRequest(f"{name} must be at least {SHORTEST_PROMISE_MS:g}", param=name, code="invalid_header")
    return None if value is None else value / 1000.0


def _positive(texts: Mapping[str, str], name: str) -> float | None:
    text = texts.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise BadRequest(f"{name} must be a positive number, not '{text[:64]}'", param=name, code="invalid_header")
    return value


def _flag(texts: Mapping[str, str], name: str) -> bool:
    text = texts.get(name, "0").lower()
    if text in ("1", "true"):
        return True
    if text in ("0", "false", ""):
        return False
    raise BadRequest(f"{name} must be 1 or 0, not '{text[:64]}'", param=name, code="invalid_header")


def _cache_mode(text: str | None) -> CacheMode:
    if text is None:
        return "on"
    if text in ("off", "only", "refresh"):
        return cast("CacheMode", text)
    raise BadRequest(
        f"x-turnout-cache must be off, only or refresh, not '{text[:64]}'",
        param="x-turnout-cache",
        code="invalid_header",
    )


def _session(text: str | None) -> str | None:
    if not text:
        return None
    if len(text) > LONGEST_SESSION:
        raise BadRequest(
            f"x-turnout-session must have at most {LONGEST_SESSION} characters",
            param="x-turnout-session",
            code="invalid_header",
        )
    return text


def _trace(text: str | None) -> dict[str, str]:
    """The trace a caller's `traceparent` names, as a tag; a malformed one is ignored, as W3C Trace Context asks."""
    found = _TRACEPARENT.match(text or "")
    return {"trace_id": found[1]} if found and int(found[1], 16) else {}


def _tags(text: str | None) -> dict[str, str]:
    tags: dict[str, str] = {}
    if not text:
        return tags
    for item in text.split(","):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not (equals and _TAG.match(key) and _TAG.match(value)) or len(tags) == _MAX_TAGS:
            raise BadRequest(
                f"x-turnout-tags must be up to {_MAX_TAGS} k=v pairs of letters, digits and _.:/- "
                f"(64 characters each), not '{text[:64]}'",
                param="x-turnout-tags",
                code="invalid_header",
            )
        tags[key] = value
    return tags
