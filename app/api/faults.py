"""What FastAPI says when something is wrong, in OpenAI's words: 404, 405, 422 (as 400) and 500 alike."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.api.response_headers import retry_headers
from app.errors import ApiError, BadRequest, InternalError, MethodNotAllowed, NotFound

UNSUPPORTED = frozenset(
    "assistants audio batches chatkit complete containers conversations evals files fine-tuning fine_tuning images "
    "moderations organization organizations realtime skills threads uploads vector_stores videos".split()
)
"""What OpenAI and Anthropic have below /v1 and Turnout has not."""

KEPT = ("/v1/chat/completions/", "/v1/responses/", "/v1/messages/")
"""Below these are answers that a service has kept, and batches of requests."""

log = logging.getLogger("turnout.api")


def install(api: FastAPI) -> None:
    """Register the handlers."""
    api.add_exception_handler(ApiError, _api_error)
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(HTTPException, _http)
    api.add_exception_handler(Exception, _internal)


def answer(error: ApiError) -> JSONResponse:
    """An error as a response."""
    headers = {name.decode(): value.decode() for name, value in retry_headers(error)}
    return JSONResponse(error.body(), status_code=error.status, headers=headers)


async def _api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return answer(error)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    param = ".".join(str(part) for part in first["loc"][1:]) or None
    return answer(BadRequest(str(first["msg"]), param=param, code="invalid_value"))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    path, method = request.url.path, request.method
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "GET")
        return answer(MethodNotAllowed(f"{path} takes {allow}, not {method}", allow=allow))
    if error.status_code == 404:
        if _supported_elsewhere(path):
            what = f"{path[:256]} is not supported: Turnout routes requests for tokens and keeps nothing of them"
            return answer(NotFound(what, code="unsupported_endpoint"))
        return answer(NotFound(f"no route {method} {path[:256]}", code="unknown_route"))
    return answer(BadRequest(str(error.detail)))


async def _internal(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return answer(InternalError("internal error; see the log"))


def _supported_elsewhere(path: str) -> bool:
    first = path.removeprefix("/v1/").partition("/")[0] if path.startswith("/v1/") else ""
    return first in UNSUPPORTED or path.startswith(KEPT)
