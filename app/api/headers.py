"""Request headers a client may steer with, parsed and bounded; what is wrong is a 400 that names the header.

So is a name that means nothing: a misspelt promise would else be none, and nobody would know.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import cast

from app.call import NO_OPTIONS, CacheMode, Options
from app.errors import BadRequest

_REQUEST_ID = re.compile(r"^[A-Za-z0-9_-]{1,128}$")
_TAG = re.compile(r"^[A-Za-z0-9_.:/-]{1,64}$")
_TRACEPARENT = re.compile(r"^(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-|$)")
_MAX_TAGS = 16
OURS = (b"x-slo-", b"x-turnout-", b"traceparent", b"cache-control")
SLO = ("x-slo-ttft-ms", "x-slo-tpot-ms", "x-slo-e2e-ms")
STEERING = (
    *SLO,
    "x-turnout-policy",
    "x-turnout-max-cost-usd",
    "x-turnout-cache",
    "x-turnout-tags",
    "x-turnout-session",
    "x-turnout-debug",
    "x-turnout-dry-run",
)
"""What `parse` reads beside `traceparent`."""

ANSWERED = (
    "x-turnout-config",
    "x-turnout-overhead-ms",
    "x-turnout-attempts",
    "x-turnout-decision",
    "x-turnout-backend",
    "x-turnout-substrate",
    "x-turnout-cost-usd",
    "x-turnout-saved-usd",
)
"""What responses carry and requests do not: a client or proxy that sends it back means nothing by it."""

CACHE_RESULTS = ("hit", "semantic", "coalesced", "miss")
"""Likewise: what `x-turnout-cache` says in a response and cannot ask for."""

_KNOWN = frozenset((*STEERING, *ANSWERED, "traceparent", "cache-control"))
_NEAR, _VERY_NEAR = 0.6, 0.75
"""How like a known name (1 = equal) one is that may have been meant. `x-slo-` is not ours alone: there only
what can hardly be anything else is refused."""

_DIRECTIVES: Mapping[str, CacheMode] = {"no-store": "off", "no-cache": "refresh", "only-if-cached": "only"}
LONGEST_AGE_DIGITS = 10
SHORTEST_PROMISE_MS = 0.001
LONGEST_SESSION = 256


def parse(raw: Iterable[tuple[bytes, bytes]], forwarded: Collection[bytes] = ()) -> Options:
    """The options among ASGI headers; `forwarded` are names that some service is to get.

    Raises: BadRequest.
    """
    passed = {name.decode(): value.decode("latin-1") for name, value in raw if name in forwarded} if forwarded else None
    ours = {name: value.decode("latin-1").strip() for name, value in raw if name.startswith(OURS)}
    if not ours:
        return Options(headers=passed) if passed else NO_OPTIONS
    texts = {name.decode("latin-1"): value for name, value in ours.items()}
    if not _KNOWN.issuperset(texts):
        _refuse_misspelt(texts)
    wanted, max_age_s = _cache_control(texts.get("cache-control"))
    return Options(
        slo_ttft_s=_milliseconds(texts, "x-slo-ttft-ms"),
        slo_tpot_s=_milliseconds(texts, "x-slo-tpot-ms"),
        slo_e2e_s=_milliseconds(texts, "x-slo-e2e-ms"),
        policy=texts.get("x-turnout-policy") or None,
        max_cost_usd=_positive(texts, "x-turnout-max-cost-usd"),
        cache=_cache_mode(texts.get("x-turnout-cache"), wanted),
        max_age_s=max_age_s,
        tags=_tags(texts.get("x-turnout-tags")) | _trace(texts.get("traceparent")) or None,
        debug=_flag(texts, "x-turnout-debug"),
        dry_run=_flag(texts, "x-turnout-dry-run"),
        session=_session(texts.get("x-turnout-session")),
        headers=passed or None,
    )


def client_request_id(value: str | None) -> str | None:
    """A client's own request id, if it is one we can echo safely."""
    return value if value and _REQUEST_ID.match(value) else None


def _refuse_misspelt(names: Iterable[str]) -> None:
    """Raises: BadRequest."""
    for name in sorted(set(names) - _KNOWN):
        reserved = name.startswith("x-turnout-")
        if not reserved and not name.startswith("x-slo-"):
            continue  # W3C's `traceparent` with something behind it
        known = {_bare(each): each for each in (STEERING if reserved else SLO)}
        cutoff = _NEAR if reserved else _VERY_NEAR
        near = difflib.get_close_matches(_bare(name[:64]), list(known), n=1, cutoff=cutoff)
        if near or reserved:
            hint = f"did you mean {known[near[0]]}?" if near else f"there are {', '.join(STEERING)}"
            raise BadRequest(f"there is no request header {name[:64]}; {hint}", param=name[:64], code="unknown_header")


def _bare(name: str) -> str:
    """Without the prefix: who takes `x-turnout-slo-ttft` for the name misses a promise, not a policy."""
    return name.removeprefix("x-").removeprefix("turnout-")


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


def _cache_mode(text: str | None, otherwise: CacheMode) -> CacheMode:
    """`x-turnout-cache` goes before `cache-control`."""
    if text is None or text in CACHE_RESULTS:
        return otherwise
    if text in ("off", "only", "refresh"):
        return cast("CacheMode", text)
    raise BadRequest(
        f"x-turnout-cache must be off, only or refresh, not '{text[:64]}'",
        param="x-turnout-cache",
        code="invalid_header",
    )


def _cache_control(text: str | None) -> tuple[CacheMode, float | None]:
    """What HTTP's own header asks of a cache (RFC 9111, 5.2.1), and the greatest age of an answer that will do.

    Directives that mean nothing here are passed over, as the RFC has it; an age that is none is not.
    """
    mode: CacheMode = "on"
    max_age_s: float | None = None
    for directive in (text or "").lower().split(","):
        name, _, value = directive.strip().partition("=")
        if name in _DIRECTIVES and (mode == "on" or name == "no-store"):
            mode = _DIRECTIVES[name]
        elif name == "max-age":
            age = value.strip('"')
            if not (age.isascii() and age.isdigit()) or len(age) > LONGEST_AGE_DIGITS:
                raise BadRequest(
                    f"cache-control: max-age must be a number of seconds, not '{value[:64]}'",
                    param="cache-control",
                    code="invalid_header",
                )
            max_age_s = float(age)
    return ("refresh" if max_age_s == 0 and mode == "on" else mode), max_age_s


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
