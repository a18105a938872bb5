"""One truth, two clocks: the live gateway in asyncio and the replay make the same of the same arrivals."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from app.answers import LiveAnswer
from app.call import Call, Options
from app.config.load import load
from app.metering.types import Bill, RequestRecord
from app.replay.formats import Arrival
from app.replay.simulation import Simulation
from app.replay.stage import stage
from app.wiring import Gateway, build
from backends.clock import VirtualClock
from backends.types import EngineShare, Usage
from tests.simulation.test_replay import synthetic

MODEL, POLICY = "llama-3.3-70b", "round-robin"  # whose turn it is depends on nothing that is learned


class Fate(NamedTuple):
    """Where a request went and what it took there, to the nanosecond of engine time."""

    backend: str
    usage: Usage
    share: EngineShare | None


async def live(arrivals: Sequence[Arrival], folder: Path) -> list[Fate]:
    clock = VirtualClock()
    loaded = load(None, {"TURNOUT_LEDGER": str(folder / "ledger.sqlite3")})
    gateway, fates = build(loaded, clock), dict[int, Fate]()
    async with gateway.running():
        tasks = []
        for number, arrival in enumerate(arrivals):
            await clock.advance_to(int(arrival.at_s * 1e9))
            tasks.append(asyncio.create_task(ask(gateway, number, arrival, fates)))
            await clock.advance_to(int(arrival.at_s * 1e9))
        while not all(task.done() for task in tasks):
            deadline_ns = clock.next_deadline_ns()
            assert deadline_ns is not None, "nothing happens any more, and somebody waits"
            await clock.advance_to(deadline_ns)
        await asyncio.gather(*tasks)
    return [fates[number] for number in range(len(arrivals))]


async def ask(gateway: Gateway, number: int, arrival: Arrival, fates: dict[int, Fate]) -> None:
    prompt = " ".join([f"{number}x{word}" for word in range(arrival.prompt_tokens)])
    length = arrival.completion_tokens
    call = Call(
        f"r{number}", "chat", MODEL, (prompt,), b"", 0, Options(policy=POLICY), max_tokens=length, min_tokens=length,
        ignore_eos=True, stream=True,
    )  # fmt: skip
    answer = await gateway.service.open(call, None)
    assert isinstance(answer, LiveAnswer)
    async for _ in answer:
        pass
    fates[number] = Fate(answer.attempt.chosen.view.name, answer.usage(), answer.attempt.engine_share())


def replayed(arrivals: Sequence[Arrival]) -> list[Fate]:
    class Rows:
        def __init__(self) -> None:
            self.records: list[RequestRecord] = []

        def append(self, record: RequestRecord, bill: Bill) -> None:
            self.records.append(record)

    rows = Rows()
    simulation = Simulation(stage(load(), 0, rows), POLICY, MODEL, lambda served: None)
    simulation.run(arrivals)
    records = sorted(rows.records, key=lambda record: int(record.request_id[1:]))
    assert all(record.backend is not None for record in records)
    return [Fate(record.backend or "", record.usage, record.share) for record in records]


@pytest.mark.parametrize("rate", [2.0, 20.0])
def test_engines_do_the_same_live_and_replayed(tmp_path: Path, rate: float) -> None:
    arrivals = [arrival._replace(blocks=()) for arrival in synthetic(80, rate)]
    assert asyncio.run(live(arrivals, tmp_path)) == replayed(arrivals)
