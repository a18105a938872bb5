"""Several routers in front of one fleet, each with its own state and the others' load as it was some time ago."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Any

import pytest

from app.config.load import load
from app.fleet.fleet import Fleet
from app.fleet.receipts import Receipts
from app.fleet.sharing import learned, rows
from app.replay.formats import Arrival
from app.replay.records import Served
from app.replay.simulation import Simulation
from app.replay.stage import EngineTokens, Stage, stage
from app.routing.state import NOBODY
from tests.simulation.test_replay import Rows

NS = 1_000_000_000
MODEL = "llama-3.1-8b"
LEARNED_NS = 5 * NS


def arrivals(count: int, rate: float, seed: int) -> list[Arrival]:
    """Poisson arrivals with chat-like lengths, no two prompts alike."""
    rng, at_s, made = random.Random(7 + seed), 0.0, list[Arrival]()
    for _ in range(count):
        at_s += rng.expovariate(rate)
        prompt, answer = rng.lognormvariate(6.5, 1.0), rng.lognormvariate(4.8, 0.8)
        made.append(Arrival(at_s, int(min(8000, prompt)) + 1, int(min(900, answer)) + 1))
    return made


class Herd(Simulation):
    """Requests go round the routers; every `age_ns` each is told what the others had in flight just then, and stays by
    it until the next time (None = it is told nothing)."""

    def __init__(self, made: Stage, routers: int, age_ns: int | None, told: Any) -> None:
        super().__init__(made, "cheapest-slo", MODEL, told)
        first = made.fleet
        self._fleets = [first]
        for number in range(1, routers):
            fleet = Fleet(first.backends, first.snapshot, first.policies, Receipts(64, f"d{number}-"), number * 7919)
            fleet.released = first.released
            for server in made.servers.values():
                fleet.state.load(server.name).heard = EngineTokens(server.engine)
            self._fleets.append(fleet)
        self._age_ns = age_ns
        self._due_ns = self._learned_ns = 0

    def _arrive(self, arrival: Arrival, now_ns: int) -> None:
        if self._age_ns is not None and now_ns >= self._due_ns:
            self._exchange(now_ns)
            self._due_ns = now_ns + self._age_ns
        self._fleet = self._desk = self._fleets[self._number % len(self._fleets)]
        super()._arrive(arrival, now_ns)

    def _ask(self, ride: Any, *rest: Any) -> None:
        self._fleet = ride.machine._desk
        super()._ask(ride, *rest)

    def _exchange(self, now_ns: int) -> None:
        told = {
            str(number): rows.own_row(fleet.state, fleet.backends, {}, now_ns)
            for number, fleet in enumerate(self._fleets)
        }
        for number, fleet in enumerate(self._fleets):
            others = rows.merged(told, str(number)).loads
            for name in fleet.backends:
                fleet.state.load(name).others = others[name].others() if name in others else NOBODY
        if now_ns >= self._learned_ns:
            self._learned_ns = now_ns + LEARNED_NS
            made = {
                str(number): learned.own(each.state, each.snapshot, now_ns) for number, each in enumerate(self._fleets)
            }
            for number, fleet in enumerate(self._fleets):
                learned.take(fleet.state, fleet.snapshot, learned.merged(made, str(number)))


@lru_cache
def attainment(routers: int, age_s: float | None, count: int, rate: float, seed: int = 0) -> tuple[float, float]:
    """Percent of the requests that met every promise: of the first half, in which routers learn, and the second."""
    served = list[Served]()
    made = stage(load(None), seed, Rows())
    age_ns = None if age_s is None else int(age_s * NS)
    Herd(made, routers, age_ns, served.append).run(arrivals(count, rate, seed))
    assert len(served) == count
    served.sort(key=lambda each: each.at_s)
    half = count // 2
    first, second = (100.0 * sum(each.good for each in part) / half for part in (served[:half], served[half:]))
    return first, second


COUNT, RATE = 6000, 200.0
"""Requests a second: near what the shipped fleet takes of this model."""


@pytest.mark.parametrize("age_s", [0.1, 0.5])
def test_eight_routers_do_as_well_as_one(age_s: float) -> None:
    """Mean over three seeds, cold start included."""
    one, eight = (
        sum(sum(attainment(routers, each, COUNT, RATE, seed)) for seed in range(3)) / 6
        for routers, each in ((1, 0.0), (8, age_s))
    )
    assert eight >= one - 1.0


def test_told_nothing_they_would_not() -> None:
    """The mutation of the test above, on its first seconds: eight that hear nothing all take the cheapest."""
    (one, _), (eight, _) = (attainment(routers, age_s, COUNT // 4, RATE) for routers, age_s in ((1, 0.0), (8, None)))
    assert eight < one - 10.0
