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
from backends.clock import VirtualClock
from tests.builders import make_snapshot


class NoMetrics:
    def render(self, accept: str) -> tuple[bytes, str]:
        return b"", "text/plain"


def called(dependant: Dependant) -> list[Callable[..., object]]:
    own = [] if dependant.call is None else [dependant.call]
    return own + [each for below in dependant.dependencies for each in called(below)]


def test_every_endpoint_and_guard_is_a_coroutine() -> None:
    fleet = Fleet({}, make_snapshot(), {}, Receipts(1, "d-"), 0)
    apis: list[FastAPI] = [
        admin_api(fleet, NoMetrics(), dict, "token", VirtualClock()),
        public_api(Planner({}, {}, "p"), fleet.substrates, lambda: None),
    ]
    routes = [route for api in apis for route in api.routes if isinstance(route, APIRoute)]
    assert len(routes) >= 11
    for route in routes:
        for function in called(route.dependant):
            assert inspect.iscoroutinefunction(function), (route.path, function)
