"""What changes on the event loop is read on the event loop: no endpoint may run in a thread."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from app.api.admin import admin_api
from app.api.public import public_api
from app.fleet.fleet import Fleet
from app.fleet.receipts import Receipts
from app.planning import Planner
from tests.builders import make_snapshot


class EmptyDesk:
    def fleet(self) -> Fleet:
        return Fleet({}, make_snapshot(), {}, Receipts(1, "d-"), 0)

    def token(self) -> str:
        return "token"

    def config(self) -> dict[str, object]:
        return {}

    def watched(self, name: str) -> None:
        return None

    def state(self) -> dict[str, object]:
        return {}

    def status(self) -> dict[str, object]:
        return {}

    def now_ns(self) -> int:
        return 0

    def cache(self) -> None:
        return None

    def metrics(self, accept: str) -> tuple[bytes, str]:
        return b"", "text/plain"

    async def reload(self, *, dry_run: bool) -> dict[str, object]:
        return {}


def called(dependant: Dependant) -> list[Callable[..., object]]:
    own = [] if dependant.call is None else [dependant.call]
    return own + [each for below in dependant.dependencies for each in called(below)]


def test_every_endpoint_and_guard_is_a_coroutine() -> None:
    desk = EmptyDesk()
    apis: list[FastAPI] = [
        admin_api(desk),
        public_api(lambda: Planner({}, {}, "p", {}), desk.fleet().substrates, desk.fleet().quality, lambda: None),
    ]
    routes = [route for api in apis for route in api.routes if isinstance(route, APIRoute)]
    assert len(routes) >= 11
    for route in routes:
        for function in called(route.dependant):
            assert inspect.iscoroutinefunction(function), (route.path, function)
