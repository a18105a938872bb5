"""Errors of the gateway, and how each looks to a client.

    TurnoutError
    ├── ConfigError             a configuration that cannot be used (file:line:column: path: message)
    ├── CalibrationError        measured points or a recorded run that cannot be read
    ├── ReloadError             a valid configuration that a running gateway cannot take over
    ├── StateFileError          a routing state that cannot be restored
    ├── StartupError            a gateway that cannot start: a ledger file it cannot open, say
    └── ApiError                answered to a client in OpenAI's error shape
        ├── BadRequest          400 invalid_request_error, names `param`
        │   └── UpstreamRefused 4xx a service's own: 400, 413, 422, ...
        ├── Unauthorized        401 authentication_error (401 code invalid_api_key)
        ├── NotFound            404 unknown route or model
        ├── MethodNotAllowed    405
        ├── Conflict            409 what was asked for does not go with what runs
        ├── PayloadTooLarge     413
        ├── Overloaded          429 every backend that could serve is full; carries retry-after-ms
        ├── NoBackend           503 nobody can serve this (drained, filtered out); says why
        ├── CacheUnreachable    503 the shared cache cannot be emptied: it does not answer
        ├── ShuttingDown        503 this gateway stops before the answer was whole
        ├── UpstreamFailed      502 a backend failed and nobody else could take over
        ├── UpstreamTimeout     504
        └── InternalError       500 a fault of ours

Backend errors (`backends.errors`) are translated at the edge by `from_backend`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Self

from backends import errors as backend_errors

if TYPE_CHECKING:
    from app.routing.types import Decision


class TurnoutError(Exception):
    """Root of all errors raised by `app`."""


class ConfigError(TurnoutError):
    """A configuration that cannot be used; `problems` are `file:line:column: path: message` lines."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class CalibrationError(TurnoutError):
    """Measured points or a recorded run that cannot be read."""


class StateFileError(TurnoutError):
    """A routing state in a file that cannot be restored."""


class StartupError(TurnoutError):
    """Something the gateway needs before it can serve is not to be had."""


class ReloadError(TurnoutError):
    """A valid configuration that the running gateway could not take over; the old one stays."""


class ApiError(TurnoutError):
    """An error as a client sees it: HTTP status and the four keys of OpenAI's error body."""

    status: int = 500
    type: str = "server_error"
    code: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        allow: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.error_code = code if code is not None else self.code
        self.retry_after_s = retry_after_s
        self.allow = allow
        self.decision: Decision | None = None
        self.attempts = 0
        self.waited_ns = 0

    def after(self, decision: Decision, attempts: int, waited_ns: int) -> Self:
        """The same error, knowing the decision before it, the attempts made and how long backends were waited for."""
        self.decision = decision
        self.attempts = attempts
        self.waited_ns = waited_ns
        return self

    def body(self) -> dict[str, dict[str, str | None]]:
        """The `{"error": {...}}` body, all four keys present."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.error_code,
            }
        }


class BadRequest(ApiError):
    """The request cannot be understood or honoured; `param` names the field."""

    status = 400
    type = "invalid_request_error"


class UpstreamRefused(BadRequest):
    """A service finds the request at fault, and says so with a status of its own."""

    def __init__(self, message: str, status: int, param: str | None, code: str | None) -> None:
        super().__init__(message, param=param, code=code)
        self.status = status


class Unauthorized(ApiError):
    """No valid credentials."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class NotFound(ApiError):
    """No such route, model or decision."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class MethodNotAllowed(ApiError):
    """The route exists, but not for this method."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class Conflict(ApiError):
    """Valid, and not possible as things are."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"


class PayloadTooLarge(ApiError):
    """The body exceeds `server.body_limit_bytes`."""

    status = 413
    type = "invalid_request_error"
    code = "payload_too_large"


class Overloaded(ApiError):
    """Everyone who could serve this is full."""

    status = 429
    type = "rate_limit_error"
    code = "overloaded"


class NoBackend(ApiError):
    """No backend is able or allowed to serve this."""

    status = 503
    type = "server_error"
    code = "no_backend"


class CacheUnreachable(ApiError):
    """What was to be done to the cache could not be: nobody answers there."""

    status = 503
    type = "server_error"
    code = "cache_unreachable"


class ShuttingDown(ApiError):
    """The gateway was told to stop and could not wait for this answer any longer."""

    status = 503
    type = "server_error"
    code = "shutting_down"


class UpstreamFailed(ApiError):
    """A backend failed and nobody else could take over."""

    status = 502
    type = "server_error"
    code = "upstream_failed"


class UpstreamTimeout(ApiError):
    """A backend did not answer in time."""

    status = 504
    type = "server_error"
    code = "upstream_timeout"


class InternalError(ApiError):
    """A fault of ours; details are in the log under the request id."""

    code = "internal_error"


def from_backend(error: backend_errors.BackendError) -> ApiError:
    """What a client is told of a backend's failure."""
    text = str(error)
    if isinstance(error, backend_errors.ContextExceeded):
        return BadRequest(text, param=error.param, code="context_length_exceeded")
    if isinstance(error, backend_errors.RequestRefused):
        return UpstreamRefused(text, error.status, error.param, error.code)
    if isinstance(error, backend_errors.Saturated):
        return Overloaded(text, retry_after_s=error.retry_after_s)
    if isinstance(error, backend_errors.BackendTimeout):
        return UpstreamTimeout(text)
    return UpstreamFailed(text)
