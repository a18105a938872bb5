"""Everything that can go wrong below the gateway.

    TurnoutBackendError
    ├── BackendConfigError        a backend cannot be built as configured
    │   ├── UnknownKind           no module of that name declares a substrate
    │   ├── UnknownFigure         a chip, model or precision without a datasheet
    │   └── DoesNotFit            weights (or one request's KV) exceed the chips' memory
    └── BackendError              a request failed on a built backend
        ├── RequestRefused        the client's fault: retrying elsewhere cannot help
        │   ├── ContextExceeded   prompt plus answer do not fit the context
        │   └── Unsupported       a field this backend cannot honour
        ├── Saturated             queue full; another backend may still take it
        ├── Unavailable           cannot answer, or is shutting down
        │   └── Unreachable       no connection could be made: nothing was sent
        ├── BackendTimeout        no first byte (or no next one) in time
        └── StreamCut             broke off after tokens had been sent

`retryable` says whether another backend may be tried before the first byte has reached the client.
`client_fault` errors never count against a backend's health.
"""

from __future__ import annotations

from typing import ClassVar


class TurnoutBackendError(Exception):
    """Root of all errors raised by `backends`."""


class BackendConfigError(TurnoutBackendError):
    """A backend cannot be built as configured."""


class UnknownKind(BackendConfigError):
    """No module of that name declares a substrate."""


class UnknownFigure(BackendConfigError):
    """A chip, model or precision for which there is no datasheet."""


class DoesNotFit(BackendConfigError):
    """The model (or the KV cache of a single request) exceeds the memory of the chips given to it."""


class BackendError(TurnoutBackendError):
    """A request failed on a built backend."""

    retryable: ClassVar[bool] = False
    client_fault: ClassVar[bool] = False


class RequestRefused(BackendError):
    """The request itself is at fault; `param` names the field, `code` and `status` are the service's own."""

    client_fault = True

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.param = param
        self.code = code
        self.status = status


class ContextExceeded(RequestRefused):
    """Prompt and answer together exceed the deployment's context."""


class Unsupported(RequestRefused):
    """The backend cannot honour a field of the request."""


class Saturated(BackendError):
    """The backend's queue is full; `retry_after_s` is its own estimate of when to come back, `told` says that a service
    itself has asked to be left alone for so long."""

    retryable = True

    def __init__(self, message: str, retry_after_s: float = 1.0, *, told: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.told = told


class Unavailable(BackendError):
    """The backend cannot answer: unreachable, refusing, broken or shutting down."""

    retryable = True


class Unreachable(Unavailable):
    """No connection to the backend could be made, so nothing was sent and nothing can have been billed."""


class BackendTimeout(BackendError):
    """No byte arrived within the time allowed."""

    retryable = True


class StreamCut(BackendError):
    """The answer broke off after part of it had been delivered."""
