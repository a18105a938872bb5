"""What the gateway port serves beside the hot endpoints: models and health. FastAPI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from app.api import faults
from app.config.models import ModelConfig
from app.planning import Planner

STARTED_EPOCH_S = 1_700_000_000
STARTED_RFC3339 = "2023-11-14T22:13:20Z"
"""`created` and `created_at` of a model: OpenAI's clients want an integer; a configured model has no birthday."""


def public_api(
    planner: Callable[[], Planner],
    substrates: Callable[[str], list[str]],
    quality: Callable[[str], float | None],
    ready: Callable[[], str | None],
) -> FastAPI:
    """`substrates(model)` lists who serves it, `quality(model)` is what is declared of it; `ready()` is None, or why
    the gateway should get no traffic."""
    api = FastAPI(title="Turnout", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    faults.install(api)

    @api.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        listed = [describe(name) for name in planner().names()]
        # Anthropic's clients read the same list: it is always whole, so there is no next page.
        edges = {"first_id": listed[0]["id"], "last_id": listed[-1]["id"]} if listed else {}
        return {"object": "list", "data": listed, "has_more": False, **edges}

    @api.get("/v1/models/{name:path}")
    async def get_model(name: str) -> dict[str, Any]:
        return describe(name)

    @api.head("/healthz", include_in_schema=False)
    @api.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @api.head("/readyz", include_in_schema=False)
    @api.get("/readyz")
    async def readyz() -> JSONResponse:
        why_not = ready()
        if why_not is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "reason": why_not}, status_code=503)

    def describe(name: str) -> dict[str, Any]:
        shares = planner().shares(name)
        largest = max(shares, key=lambda share: share[1])[0]
        config: ModelConfig = planner().models[largest]
        return {
            "id": name,
            "object": "model",
            "created": STARTED_EPOCH_S,
            "owned_by": "turnout",
            # What Anthropic's clients call the same.
            "type": "model",
            "display_name": name,
            "created_at": STARTED_RFC3339,
            "lifecycle": "active",
            "turnout": {
                "model": largest,
                "shares": dict(shares),
                "substrates": sorted({each for model, _ in shares for each in substrates(model)}),
                "quality": quality(largest),
                "slo": config.slo,
                "default_max_tokens": config.default_max_tokens,
            },
        }

    return api
