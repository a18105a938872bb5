"""What a service says when it does not answer, and what it means here:

400 413 422 and other 4xx       RequestRefused with that status; ContextExceeded where the code or the text says so
401 403                         Unavailable: the operator's key is wrong, not the client
402                             Unavailable: the operator's account is empty
404                             Unavailable: address and model's name are the operator's too
408 504                         BackendTimeout
429                             Saturated, with retry-after-ms or Retry-After
3xx 5xx, not JSON, not SSE      Unavailable; once a chunk has been read, StreamCut
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from backends.errors import BackendError, BackendTimeout, ContextExceeded, RequestRefused, Saturated, Unavailable

MAX_ERROR_CHARACTERS = 500
MAX_RETRY_AFTER_S = 3600.0
_CONTEXT_CODES = ("context_length_exceeded", "string_above_max_length")
_CONTEXT_WORDS = re.compile(r"maximum context length|context length|max_model_len|longer than the maximum", re.I)
_anything = msgspec.json.Decoder().decode


def shown(text: str, api_key: str | None) -> str:
    """What of a service's own words may reach clients: a beginning of them, without the key that it may quote.

    The key goes first: a cut through it would leave a part.
    """
    return (text.replace(api_key, "***") if api_key else text)[:MAX_ERROR_CHARACTERS]


def refusal(
    name: str, status: int, headers: Mapping[str, str], body: bytes, wall_s: float, api_key: str | None = None
) -> BackendError:
    """What an answer other than 200 means; `wall_s` is now, for a Retry-After that is a date."""
    said, code, param = _error_text(body)
    text = f"{name}: {shown(said, api_key) or f'status {status}'}"
    if status in (401, 403):
        # What it said may show a part of the key, and this reaches clients.
        return Unavailable(f"{name} refused the gateway's credentials with {status}: check its api_key")
    if status == 402:
        return Unavailable(f"{text} (status 402: check its account)")
    if status == 404:
        return Unavailable(f"{text} (status 404: check its url and upstream_model)")
    if status in (408, 504):
        return BackendTimeout(text)
    if status == 429:
        return Saturated(text, retry_after_s(headers, wall_s), told=True)
    if 400 <= status < 500:
        field = param and shown(param, api_key)
        if code in _CONTEXT_CODES or _CONTEXT_WORDS.search(said):
            return ContextExceeded(text, field, "context_length_exceeded")
        return RequestRefused(text, field, code and shown(code, api_key), status)
    return Unavailable(f"{text} (status {status})")


def _error_text(body: bytes) -> tuple[str, str | None, str | None]:
    """(message, code, param) of an error body, whatever it looks like; not yet fit to be `shown`."""
    error = _error(body)
    if error is None:
        return body.decode("utf-8", "replace").strip(), None, None
    if not isinstance(error, dict):
        return str(error), None, None
    message = error.get("message") or error.get("detail") or error
    code, param = error.get("code"), error.get("param")
    return (
        str(message),
        code if isinstance(code, str) else None,
        param if isinstance(param, str) else None,
    )


def error_fields(body: bytes) -> Mapping[str, Any]:
    """What an error body has beside its words; empty where it has none."""
    error = _error(body)
    return error if isinstance(error, dict) else {}


def _error(body: bytes) -> Any:
    """The error in a body, in whatever it is wrapped; None for what is no JSON."""
    try:
        said = _anything(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(said, list) and len(said) == 1:  # as Google puts it
        said = said[0]
    return said.get("error", said) if isinstance(said, dict) else said


def retry_after_s(headers: Mapping[str, str], wall_s: float, unsaid_s: float = 1.0) -> float:
    """When to come back: retry-after-ms, Retry-After in seconds or as a date, else `unsaid_s`."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            return min(MAX_RETRY_AFTER_S, max(0.0, float(text) / scale))
        except ValueError:
            pass
        try:
            return min(MAX_RETRY_AFTER_S, max(0.0, parsedate_to_datetime(text).timestamp() - wall_s))
        except (ValueError, TypeError):
            continue
    return unsaid_s
