"""Held requests are called when a backend is there for them again, by whatever way: a playbook over a real fleet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.dispatch.admission import Admission
from app.dispatch.dispatcher import Dispatcher, Opened
from app.dispatch.terms import Terms
from app.fleet.fleet import Fleet
from app.fleet.receipts import Receipts
from app.routing.state import Gate
from app.routing.types import Reservation, Slo
from backends import errors
from backends.clock import SystemClock
from backends.types import ColdStart, GenerationRequest
from tests.builders import make_policy, make_request, make_snapshot, make_view
from tests.fakes import ScriptedBackend
from tests.gateways import until

S = 1_000_000_000
PATIENT = Slo(ttft_s=20.0)
SOON_NS = S // 4


class Hall:
    """Backend `a` is so busy that nobody may go there for minutes, and somebody waits; `b` is free, or will be."""

    def __init__(self, cold_start: ColdStart | None = None, caps: dict[str, int] | None = None) -> None:
        self.clock = SystemClock()
        self.backends = {name: ScriptedBackend(name) for name in "ab"}
        views = make_view("a"), make_view("b", cold_start=cold_start)
        policy = make_policy(exploration=None)
        self.fleet = Fleet(self.backends, make_snapshot(*views), {"cheapest-slo": policy}, Receipts(99, "d-"), 0)
        self.fleet.know_warmth(self.now_ns)
        self.fleet.caps.configure(caps or {}, shared=bool(caps), now_ns=self.now_ns)
        self.queue: Admission[object] = Admission(10, 10)
        self.dispatcher = Dispatcher(self.fleet, self.clock, Terms(queue=self.queue), lambda decision, took_ns: None)
        for ticket in range(400):
            self.fleet.state.reserve(Reservation("a", 1, 8000, None, 0.8, 9000, ticket=ticket), self.now_ns)
        self.tasks: list[asyncio.Task[Opened]] = []

    @property
    def now_ns(self) -> int:
        return self.clock.now_ns()

    async def held(self, requests: int = 1) -> None:
        """So many ask, and wait."""
        asked = GenerationRequest("r", "chat", "m", ("hi",), stream=True)
        for _ in range(requests):
            route = make_request(slo=PATIENT)
            self.tasks.append(asyncio.create_task(self.dispatcher.open(route, asked, lambda attempt: None)))
        await until(lambda: len(self.queue) == len(self.tasks))

    async def served(self, by: str) -> None:
        """Everybody is, long before their time is up."""
        async with asyncio.timeout(5):
            for task in self.tasks:
                opened = await task
                assert opened.attempt.chosen.view.name == by
                await opened.attempt.cancel()
        assert not len(self.queue)


@pytest.fixture
async def hall() -> AsyncIterator[Hall]:
    made = Hall()
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


async def test_by_an_operator_who_puts_a_backend_back(hall: Hall) -> None:
    hall.fleet.set_drained("b", hall.now_ns, drained=True)
    await hall.held(3)
    hall.fleet.set_drained("b", hall.now_ns, drained=False)
    await hall.served("b")


async def test_not_by_one_who_takes_one_out(hall: Hall) -> None:
    hall.fleet.set_drained("b", hall.now_ns, drained=True)
    await hall.held()
    asked = hall.fleet.receipts.next_number()
    hall.fleet.set_drained("a", hall.now_ns, drained=True)
    hall.fleet.set_drained("a", hall.now_ns, drained=True)
    await asyncio.sleep(0)
    assert hall.fleet.receipts.next_number() == asked


@pytest.mark.parametrize("reason", ["breaker_open", "ejected", "retry_after", "cold"])
async def test_by_a_gate_whose_time_is_up(hall: Hall, reason: str) -> None:
    hall.fleet.state.gates["b"] = Gate(reason, hall.now_ns + SOON_NS)
    await hall.held(3)
    await hall.served("b")


async def test_by_the_sooner_of_two_gates_though_it_was_shut_later(hall: Hall) -> None:
    hall.fleet.state.gates["b"] = Gate("retry_after", hall.now_ns + 4 * S)
    await hall.held()
    hall.fleet.state.gates["b"] = Gate("retry_after", hall.now_ns + SOON_NS)
    await hall.held(2)
    await hall.served("b")


async def test_a_gate_that_was_prolonged_is_waited_for_anew(hall: Hall) -> None:
    hall.fleet.state.gates["b"] = Gate("retry_after", hall.now_ns + SOON_NS // 4)
    await hall.held()
    hall.fleet.state.gates["b"] = Gate("retry_after", hall.now_ns + SOON_NS)
    await hall.served("b")
    assert hall.now_ns >= hall.fleet.state.gates["b"].until_ns


async def test_a_backend_that_refuses_for_a_while_is_asked_again_when_that_is_over(hall: Hall) -> None:
    refused = errors.Saturated("full", 0.25, told=True)
    hall.fleet.health.failed("b", hall.fleet.health.begin("b", hall.now_ns), refused, hall.now_ns)
    await hall.held()
    await hall.served("b")


async def test_by_a_backend_that_is_warm_sooner_than_declared() -> None:
    made = Hall(ColdStart(3600.0))
    made.fleet.warm("b", made.now_ns)
    await made.held(2)
    made.fleet.answers("b", made.now_ns)
    await made.served("b")


async def test_by_a_lease_that_allows_more() -> None:
    made = Hall(caps={"b": 5})
    await made.held(3)
    made.fleet.allow("b", 5, made.now_ns)
    await made.served("b")


def test_what_never_opens_by_itself_is_not_waited_for() -> None:
    fleet = Fleet({}, make_snapshot(make_view("a"), make_view("b")), {}, Receipts(9, "d-"), 0)
    assert fleet.opens_ns("m", 0) is None
    fleet.health.full("a", full=True, now_ns=0)
    assert fleet.opens_ns("m", 0) is None
    fleet.state.gates["b"] = Gate("ejected", 5 * S)
    assert (fleet.opens_ns("m", 0), fleet.opens_ns("m", 5 * S), fleet.opens_ns("other", 0)) == (5 * S, None, None)
