"""A backend that is scaled to zero when idle, in virtual time: who goes there, when, and what becomes of them.

Emulated, not a hardware result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from app.answers import LiveAnswer
from app.call import Call, Options
from app.config.load import LoadedConfig, load
from app.replay.formats import Arrival
from app.replay.records import Served
from app.replay.runs import Ledgered, Replay, Run, play
from app.replay.seeds import ORACLE
from app.replay.simulation import Simulation
from app.replay.stage import Stage, stage
from app.wiring import Gateway, build
from backends.clock import VirtualClock
from backends.emulator.backend import EmulatedBackend
from backends.emulator.cold import ColdEngine

CHEAP = """\
  - {name: cheap, kind: gpu, chip: h100, chips: 1, deployments: [{model: llama-3.1-8b, precision: fp8}],
     cold_start: {warm_up_s: 90, idle_after_s: 600}, emulation: {max_sequences: 16},
     pricing: {type: chip_hours, usd_per_chip_hour: 2.0, source: test, confidence: assumed}}
"""
DEAR = """\
  - {name: dear, kind: gpu, chip: h100, chips: 1, deployments: [{model: llama-3.1-8b, precision: fp8}],
     emulation: {max_sequences: 16},
     pricing: {type: chip_hours, usd_per_chip_hour: 9.0, source: test, confidence: assumed}}
"""
HEAD = """\
version: 1
slo:
  interactive: {ttft_ms: 1000, tpot_ms: 50}
  batch: {e2e_ms: 300000}
models:
  llama-3.1-8b: {default_max_tokens: 1024}
backends:
"""


def config(folder: Path, *backends: str) -> Path:
    path = folder / "turnout.yaml"
    path.write_text(HEAD + "".join(backends))
    return path


def chats(from_s: float, until_s: float, every_s: float = 2.0) -> list[Arrival]:
    return [Arrival(from_s + every_s * n, 500, 60) for n in range(int((until_s - from_s) / every_s))]


def batch(at_s: float) -> Arrival:
    return Arrival(at_s, 500, 60, slo_class="batch")


def played(loaded: LoadedConfig, arrivals: Sequence[Arrival]) -> tuple[Stage, list[Served]]:
    served: list[Served] = []
    made = stage(loaded, 0, Ledgered())
    Simulation(made, "cheapest-slo", "llama-3.1-8b", served.append).run(
        sorted(arrivals, key=lambda arrival: arrival.at_s)
    )
    return made, served


def went(served: Sequence[Served], stood: Stage, from_s: float, until_s: float) -> set[str]:
    """Where requests of that time went, all of which were kept their promise."""
    names = {server.index: name for name, server in stood.servers.items()}
    within = [each for each in served if from_s <= each.at_s < until_s]
    assert within
    assert all(each.ok and each.good for each in within)
    return {names[each.backend] for each in within}


def test_it_is_left_alone_while_promises_are_tight_wakes_for_a_loose_one_and_cools_when_idle(tmp_path: Path) -> None:
    arrivals = [*chats(0, 60), batch(60.5), *chats(61, 120), *chats(160, 260), *chats(1000, 1060)]
    stood, served = played(load(config(tmp_path, CHEAP, DEAR)), arrivals)
    assert went(served, stood, 0, 60) == {"dear"}, "cold, it would be late"
    assert went(served, stood, 60.5, 60.6) == {"cheap"}, "five minutes are enough"
    assert went(served, stood, 61, 120) == {"dear"}, "it warms up"
    assert went(served, stood, 160, 260) == {"cheap"}
    assert went(served, stood, 1000, 1060) == {"dear"}, "nobody has used it for ten minutes"
    woke = next(each for each in served if each.at_s == 60.5)
    assert woke.ttft_s is not None
    assert woke.ttft_s == pytest.approx(90.0, abs=0.2)
    assert woke.predicted[0] == pytest.approx(woke.ttft_s, abs=0.2), "it was foretold"
    warm = [each.predicted[0] for each in served if 160 <= each.at_s < 260]
    assert max(warm) < 0.2, "nor is it taken for slow"
    busy_ns, idle_ns = stood.servers["cheap"].engine.busy_and_idle_ns(int(1061e9))
    assert busy_ns < idle_ns, "to warm up is no work: it is billed as idle time"


def test_alone_it_answers_everybody_who_waited_for_it(tmp_path: Path) -> None:
    stood, served = played(load(config(tmp_path, CHEAP)), [*chats(0, 90, 5.0), *chats(100, 130)])
    assert all(each.ok for each in served)
    early = [each for each in served if each.at_s < 90]
    assert all(each.at_s + (each.ttft_s or 0.0) == pytest.approx(90.0, abs=1.5) for each in early)
    assert not any(each.good for each in early)
    assert went(served, stood, 100, 130) == {"cheap"}
    assert stood.fleet.health.look("cheap", int(130e9)).breaker == "closed"


def test_a_burst_that_the_warm_one_cannot_take_wakes_it(tmp_path: Path) -> None:
    """Nobody is ever sent to it cold, for every promise is tight; without being woken it would never be warm."""
    heavy = [Arrival(0.1 * n, 2000, 300) for n in range(1800)]
    stood, served = played(load(config(tmp_path, CHEAP, DEAR)), heavy)
    names = {server.index: name for name, server in stood.servers.items()}
    assert all(names.get(each.backend) != "cheap" for each in served if each.at_s < 80 and each.ok)
    after = [each for each in served if each.at_s > 120]
    before = [each for each in served if 20 < each.at_s < 80]
    assert sum(names.get(each.backend) == "cheap" for each in after) > 0.3 * len(after)
    kept = [sum(each.good for each in part) / len(part) for part in (before, after)]
    assert kept[1] > kept[0] + 0.1, kept


def test_the_oracle_foresees_a_warm_up_too(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(f'{{"at_s": {n}, "prompt_tokens": 500, "completion_tokens": 60}}\n' for n in range(40)))
    summary = play(Replay(trace, config(tmp_path, CHEAP, DEAR)), Run(ORACLE, 0))
    assert summary["slo_attainment"] == 1.0
    assert {each["backend"]: each["requests"] for each in summary["backends"]} == {"cheap": 0, "dear": 40}


def test_a_live_gateway_waits_as_long_as_a_replayed_one(tmp_path: Path) -> None:
    loaded = load(config(tmp_path, CHEAP), {})
    ledger = loaded.config.ledger.model_copy(update={"path": tmp_path / "ledger.sqlite3"})
    loaded = replace(loaded, config=loaded.config.model_copy(update={"ledger": ledger}))
    at_s = (0.0, 30.0, 200.0, 2000.0)

    async def live() -> list[float]:
        clock = VirtualClock()
        gateway = build(loaded, clock)
        async with gateway.running():
            tasks = []
            for number, each in enumerate(at_s):
                await clock.advance_to(int(each * 1e9))
                tasks.append(asyncio.create_task(first_token_s(gateway, clock, number)))
                await clock.advance_to(int(each * 1e9))
            while not all(task.done() for task in tasks):
                deadline_ns = clock.next_deadline_ns()
                assert deadline_ns is not None, "nothing happens any more, and somebody waits"
                await clock.advance_to(deadline_ns)
            backend = gateway.fleet.backends["cheap"]
            assert isinstance(backend, EmulatedBackend)
            assert isinstance(backend.engine, ColdEngine)
            return [await task for task in tasks]

    _, served = played(loaded, [Arrival(each, 20, 5) for each in at_s])
    replayed = [each.at_s + (each.ttft_s or 0.0) for each in sorted(served)]
    assert asyncio.run(live()) == pytest.approx(replayed, abs=0.005), "a live one hears of tokens within a tick"
    assert [round(each) for each in replayed] == [90, 90, 200, 2090]


async def first_token_s(gateway: Gateway, clock: VirtualClock, number: int) -> float:
    prompt = " ".join([f"{number}x{word}" for word in range(20)])
    call = Call(
        f"r{number}", "chat", "llama-3.1-8b", (prompt,), b"", clock.now_ns(), Options(), max_tokens=5, min_tokens=5,
        ignore_eos=True, stream=True,
    )  # fmt: skip
    answer = await gateway.service.open(call, None)
    assert isinstance(answer, LiveAnswer)
    first_ns = clock.now_ns()
    async for _ in answer:
        pass
    return first_ns / 1e9
