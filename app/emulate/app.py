"""The stand-alone server's routes, as plain ASGI: it must start at once, and has few.

POST /v1/chat/completions, /v1/completions
GET  /v1/models, /health, /ping, /version, /metrics
GET, PUT, DELETE /admin/faults     with the token if there is one, else from loopback only
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any

from app import __version__
from app.api import openai_wire
from app.api.asgi import ClientGone, Headers, Receive, Scope, Send, read_body
from app.emulate.completions import Completions, send_error
from app.emulate.faults_desk import NONE, FaultsDesk
from app.emulate.faults_file import read
from app.emulate.metrics import VllmMetrics
from app.emulate.wire import Wire
from app.errors import ApiError, BadRequest, ConfigError, MethodNotAllowed, NotFound, Unauthorized
from backends.clock import Clock
from backends.types import Endpoint

HOT: dict[str, Endpoint] = {"/v1/chat/completions": "chat", "/v1/completions": "completion"}
FAULTS_LIMIT_BYTES = 1024 * 1024

Answer = tuple[bytes, str]
"""A body and its content type."""


class EmulatedServer:
    """An ASGI application."""

    def __init__(
        self,
        completions: Completions,
        metrics: VllmMetrics,
        faults: FaultsDesk,
        models: list[dict[str, Any]],
        admin_token: str | None,
        clock: Clock,
    ) -> None:
        self._completions = completions
        self.metrics = metrics
        self.faults = faults
        self._models = models
        self._admin_token = admin_token
        self._clock = clock
        self._gets: Mapping[str, Callable[[Scope], Answer]] = {
            "/v1/models": lambda scope: _json({"object": "list", "data": models}),
            "/health": lambda scope: (b"", "text/plain"),
            "/ping": lambda scope: (b"", "text/plain"),
            "/version": lambda scope: _json({"version": f"turnout-{__version__}"}),
            "/metrics": self._render,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        endpoint = HOT.get(scope["path"])
        if endpoint is not None:
            await self._completions(endpoint, scope, receive, send)
            return
        out = Wire(scope, send, self._clock)
        try:
            if scope["path"] == "/admin/faults":
                body, content_type = await self._admin(scope, receive)
            else:
                body, content_type = self._get(scope)
        except ClientGone:
            return
        except ApiError as error:
            await send_error(out, error, [])
            return
        headers: Headers = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
        await out.start(200, headers)
        await out.whole(b"" if scope["method"] == "HEAD" else body)
        await out.close()

    def _get(self, scope: Scope) -> Answer:
        path, method = scope["path"], scope["method"]
        answer = self._gets.get(path)
        if answer is None and path.startswith("/v1/models/"):
            name = path.removeprefix("/v1/models/")
            found = next((model for model in self._models if model["id"] == name), None)
            if found is None:
                raise NotFound(f"the model '{name[:256]}' does not exist", param="model", code="model_not_found")
            answer = lambda scope: _json(found)  # noqa: E731
        if answer is None:
            raise NotFound(f"no route {method} {path[:256]}", code="unknown_route")
        if method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{path} takes GET, not {method}", allow="GET, HEAD")
        return answer(scope)

    def _render(self, scope: Scope) -> Answer:
        accept = next((value for name, value in scope["headers"] if name == b"accept"), b"")
        return self.metrics.render(accept.decode("latin-1"))

    async def _admin(self, scope: Scope, receive: Receive) -> Answer:
        self._check_allowed(scope)
        method = scope["method"]
        if method == "PUT":
            body = await read_body(receive, FAULTS_LIMIT_BYTES)
            try:
                self.faults.set(read(body.decode(), "body"))
            except UnicodeDecodeError:
                raise BadRequest("the body is not valid UTF-8", code="invalid_faults") from None
            except ConfigError as error:
                raise BadRequest(str(error), code="invalid_faults") from None
        elif method == "DELETE":
            self.faults.set(NONE)
        elif method != "GET":
            raise MethodNotAllowed(f"/admin/faults takes GET, PUT or DELETE, not {method}", allow="GET, PUT, DELETE")
        return _json(self.faults.file.model_dump(mode="json"))

    def _check_allowed(self, scope: Scope) -> None:
        """Raises: Unauthorized."""
        if self._admin_token is None:
            if not _loopback(scope.get("client")):
                raise Unauthorized("without --admin-token, /admin/faults answers on loopback only")
            return
        sent = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, token = sent.partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._admin_token.encode()):
            raise Unauthorized("/admin/faults needs 'Authorization: Bearer <--admin-token>'")


def _loopback(client: tuple[str, int] | None) -> bool:
    try:
        return client is not None and ip_address(client[0]).is_loopback
    except ValueError:
        return False


def _json(body: Mapping[str, Any]) -> Answer:
    return openai_wire.encode(body), "application/json"
