"""The admin port: metrics, backends, decisions, configuration. FastAPI, behind a token if one is configured.

Every endpoint is a coroutine: FastAPI runs plain functions in threads, and what is read here changes on the loop.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping
from math import exp
from typing import Any, Protocol

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from app.api import faults
from app.api.cache_admin import add_cache_routes
from app.api.receipts import receipt
from app.cache.tiers import AnswerCache
from app.errors import BadRequest, ConfigError, Conflict, NotFound, ReloadError, Unauthorized
from app.fleet.fleet import Fleet
from app.routing.residuals import QUANTILE, Residuals
from app.routing.types import BackendView


class Desk(Protocol):
    """What the admin port is the front of: the running configuration, and what can be done about it."""

    def fleet(self) -> Fleet: ...

    def cache(self) -> AnswerCache | None: ...

    def token(self) -> str | None: ...

    def config(self) -> Mapping[str, Any]:
        """Without its secrets."""
        ...

    def status(self) -> Mapping[str, Any]:
        """Ready or not, which configuration, how its last reload went, how many backends and requests."""
        ...

    def watched(self, name: str) -> Mapping[str, Any] | None:
        """What the monitor knows of a backend; None if it is not looked after."""
        ...

    def state(self) -> Mapping[str, Any]:
        """What the router has counted and learned, for `turnout explain --state`."""
        ...

    def now_ns(self) -> int:
        """The gateway's monotonic clock."""
        ...

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type."""
        ...

    async def reload(self, *, dry_run: bool) -> Mapping[str, Any]:
        """Raises: ConfigError; ReloadError."""
        ...


def admin_api(desk: Desk) -> FastAPI:
    """Every endpoint asks the desk anew, since a reload replaces what stands behind it."""
    api = FastAPI(
        title="Turnout admin",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        dependencies=[Depends(_guard(desk.token))],
    )
    faults.install(api)

    @api.get("/metrics")
    async def get_metrics(request: Request) -> Response:
        body, content_type = desk.metrics(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    @api.get("/admin/status")
    async def status() -> Mapping[str, Any]:
        return desk.status()

    @api.get("/admin/state")
    async def state() -> Mapping[str, Any]:
        return desk.state()

    _backend_routes(api, desk)
    _decision_routes(api, desk.fleet)
    _config_routes(api, desk)
    add_cache_routes(api, desk.cache)
    return api


def _backend_routes(api: FastAPI, desk: Desk) -> None:
    @api.get("/admin/backends")
    async def backends() -> dict[str, Any]:
        return {"backends": [_backend(desk, name) for name in desk.fleet().backends]}

    @api.post("/admin/backends/{name}/drain")
    async def drain(name: str) -> dict[str, Any]:
        desk.fleet().set_drained(name, desk.now_ns(), drained=True)
        return _backend(desk, name)

    @api.post("/admin/backends/{name}/undrain")
    async def undrain(name: str) -> dict[str, Any]:
        desk.fleet().set_drained(name, desk.now_ns(), drained=False)
        return _backend(desk, name)

    @api.post("/admin/backends/{name}/warm")
    async def warm(name: str) -> dict[str, Any]:
        desk.fleet().warm(name, desk.now_ns())
        return _backend(desk, name)


def _decision_routes(api: FastAPI, fleet: Callable[[], Fleet]) -> None:
    @api.get("/admin/decisions")
    async def decisions(limit: int = 50) -> dict[str, Any]:
        return {"decisions": [receipt(decision) for decision in fleet().receipts.latest(min(limit, 1000))]}

    @api.get("/admin/decisions/{decision_id}")
    async def decision(decision_id: str) -> dict[str, Any]:
        found = fleet().receipts.get(decision_id)
        if found is None:
            raise NotFound(
                f"no decision '{decision_id[:128]}' among the latest (routing.receipts_kept)",
                code="decision_not_found",
            )
        return receipt(found)


def _config_routes(api: FastAPI, desk: Desk) -> None:
    @api.get("/admin/config")
    async def get_config() -> Mapping[str, Any]:
        return desk.config()

    @api.post("/admin/config/reload")
    async def reload(dry_run: bool = False) -> Response:
        try:
            return JSONResponse(await desk.reload(dry_run=dry_run))
        except ConfigError as error:
            refused = BadRequest("; ".join(error.problems), code="invalid_config")
            return JSONResponse({**refused.body(), "problems": list(error.problems)}, status_code=refused.status)
        except ReloadError as error:
            raise Conflict(str(error), code="cannot_reload") from error


def _guard(current: Callable[[], str | None]) -> Callable[[Request], Awaitable[None]]:
    async def check(request: Request) -> None:
        token = current()
        if token is None:
            return
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(sent.strip().encode(), token.encode()):
            raise Unauthorized("the admin port needs 'Authorization: Bearer <server.admin_token>'")

    return check


def _backend(desk: Desk, name: str) -> dict[str, Any]:
    fleet = desk.fleet()
    backend = fleet.backends[name]
    info, now, load = backend.info, backend.snapshot(), fleet.state.loads.get(name)
    trouble, health = fleet.troubles.of(name), fleet.health.look(name, desk.now_ns())
    stands = fleet.warmth(name, desk.now_ns())
    views = [view for listed in fleet.snapshot.views.values() for view in listed if view.name == name]
    return {
        "name": name,
        "substrate": info.substrate,
        "mode": info.mode,
        "chip": info.chip,
        "chips": info.chips,
        "drained": any(view.drained for view in views),
        "failing": None if trouble is None else {"failures": trouble.failures, "last_error": trouble.last_error},
        "breaker": health.breaker,
        "gated": None if health.gate is None else {"reason": health.gate, "opens_in_s": health.opens_in_s},
        "ejections": health.ejections,
        "warmth": None if stands is None else {"state": stands.warmth, "warm_in_s": stands.warm_in_s},
        "monitor": desk.watched(name),
        "in_flight": load.sequences if load else 0,
        "running": now.running,
        "waiting": now.waiting,
        "kv_used_ratio": now.kv_used_ratio,
        "busy_s": now.busy_ns / 1e9,
        "idle_s": now.idle_ns / 1e9,
        "power_estimate": None
        if info.power is None
        else {
            "busy_w": info.power.busy_w,
            "idle_w": info.power.idle_w,
            "energy_j": info.power.energy_j(now.busy_ns, now.idle_ns),
        },
        "deployments": [_deployment(fleet, view, info.deployments[view.model].assumptions) for view in views],
    }


def _deployment(fleet: Fleet, view: BackendView, assumptions: tuple[str, ...]) -> dict[str, Any]:
    profile = view.profile
    learned = fleet.state.learned.get(view.key)
    return {
        "model": view.model,
        "context_tokens": view.context_tokens,
        "calibrated": view.calibrated,
        "assumptions": list(assumptions),
        "price": {
            "prompt_usd_per_million": view.cost.prompt_nusd / 1e3,
            "completion_usd_per_million": view.cost.completion_nusd / 1e3,
            "assumed": view.cost.assumed,
        },
        "profile": {
            "overhead_s": profile.overhead_s,
            "prefill_s_per_token": profile.prefill_s_per_token,
            "decode_base_s": profile.decode_base_s,
            "decode_s_per_sequence": profile.decode_s_per_sequence,
            "max_sequences": profile.max_sequences,
            "prefill": profile.prefill,
        },
        "learned": None if learned is None else {"ttft": _residuals(learned.ttft), "tpot": _residuals(learned.tpot)},
    }


def _residuals(residuals: Residuals) -> dict[str, Any]:
    pool = residuals.pool
    return {"factor": exp(pool.centre), "q90": exp(pool.centre + pool.quantile(QUANTILE)), "n": pool.samples}
