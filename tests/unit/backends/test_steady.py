"""The closed form against the engine it stands for, and against itself under other constants."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from math import inf

import pytest

from backends.datasheet import Figure
from backends.emulator.engine import Engine
from backends.emulator.jobs import Job
from backends.emulator.profile import prefill_s
from backends.emulator.roofline import Physics, physics
from backends.emulator.steady import ClosedLoop, steady_state, ttft_s, unloaded
from backends.emulator.traits import Traits
from backends.types import DeploymentSpec
from tests.sheets import sheets

CASES = [
    ("h100", 2, "llama-3.3-70b", "fp8", ClosedLoop(1, 1000, 200)),
    ("h100", 1, "llama-3.1-8b", "fp8", ClosedLoop(32, 500, 200)),
    ("h200", 1, "gpt-oss-120b", "mxfp4", ClosedLoop(16, 1000, 500)),
    ("tpu_v6e", 8, "llama-3.3-70b", "bf16", ClosedLoop(16, 1024, 300)),
    ("groqchip1", 576, "llama-3.3-70b", "int8", ClosedLoop(8, 500, 200)),
]


def setting(chip: str, chips: int, model: str, precision: str) -> tuple[Physics, Traits]:
    sheet = sheets().chip(chip)
    traits: Traits = import_module(f"backends.{sheet.substrate}").TRAITS
    return physics(sheet, chips, sheets().model(model), DeploymentSpec(model, precision), traits), traits


@pytest.mark.parametrize(("chip", "chips", "model", "precision", "load"), CASES)
def test_the_engine_settles_to_it(chip: str, chips: int, model: str, precision: str, load: ClosedLoop) -> None:
    reduced, traits = setting(chip, chips, model, precision)
    foretold = steady_state(reduced, traits, load, reduced.max_sequences, reserved=True, moe=False)
    tpot_s, tokens_per_s = closed_loop(Engine(reduced, traits, 1, 0.0, 0.0), load)
    assert foretold.tpot_s() == pytest.approx(tpot_s, rel=0.12)
    assert foretold.output_tokens_per_s() == pytest.approx(tokens_per_s, rel=0.12)


def closed_loop(machine: Engine, load: ClosedLoop) -> tuple[float, float]:
    """Mean TPOT and answer tokens a second of the second half of six rounds, clients starting one after the other."""
    clients, prompt, answer = int(load.concurrency), int(load.prompt_tokens), int(load.answer_tokens)
    running: list[Job] = []
    ended: list[Job] = []
    now_ns = 0
    for _ in range(clients):  # staggered over about one answer, as a benchmark's ramp is
        running.append(machine.submit(now_ns, prompt, [answer]))
        for _ in range(max(1, answer // clients)):
            now_ns = machine.next_event_ns() or now_ns
            machine.advance(now_ns)
    while len(ended) < 6 * clients:
        finished = [job for job in running if job.ended_ns is not None]
        ended += finished
        running = [job for job in running if job.ended_ns is None]
        running += [machine.submit(now_ns, prompt, [answer]) for _ in finished]
        now_ns = machine.next_event_ns() or now_ns
        machine.advance(now_ns)
    half = ended[len(ended) // 2 :]
    tpots = [(job.ended_ns - job.first_token_ns) / 1e9 / (answer - 1) for job in half]  # type: ignore[operator]
    first, last = ended[len(ended) // 2 - 1].ended_ns, half[-1].ended_ns
    return sum(tpots) / len(tpots), len(half) * answer / ((last - first) / 1e9)  # type: ignore[operator]


@pytest.mark.parametrize(("chip", "chips", "model", "precision", "load"), CASES)
def test_constants_may_come_before_or_after(
    chip: str, chips: int, model: str, precision: str, load: ClosedLoop
) -> None:
    sheet, moe = sheets().chip(chip), sheets().model(model).moe is not None
    own, traits = setting(chip, chips, model, precision)
    one = Figure(1.0, "assumed")
    neutral = replace(sheet, mfu=one, mbu=one, moe_mfu=one, layer_time_us=Figure(0.0, "assumed"), default_software=None)
    bare = physics(neutral, chips, sheets().model(model), DeploymentSpec(model, precision), traits)
    states = [steady_state(each, traits, load, 64, reserved=False, moe=moe) for each in (own, bare)]
    known = sheet.constants()
    assert states[1].tpot_s(known) == pytest.approx(states[0].tpot_s(), rel=1e-9)
    assert states[1].output_tokens_per_s(known) == pytest.approx(states[0].output_tokens_per_s(), rel=1e-9)
    read = ttft_s(unloaded(bare, traits, 9000, moe), known)
    assert read == pytest.approx(prefill_s(own, traits, 9000), rel=1e-9)


def test_room_and_slots_bound_the_batch() -> None:
    reduced, traits = setting("h100", 2, "llama-3.3-70b", "fp8")
    room = reduced.kv_room_tokens
    paged, reserved = (
        steady_state(reduced, traits, ClosedLoop(inf, 100, 2000), 4096, reserved=flag, moe=False).lanes
        for flag in (False, True)
    )
    assert reserved == pytest.approx(room / 2100)
    assert paged == pytest.approx(room / 1100)
    assert steady_state(reduced, traits, ClosedLoop(inf, 100, 2000), 64, reserved=False, moe=False).lanes == 64


def test_more_clients_never_speed_one_up() -> None:
    reduced, traits = setting("h200", 1, "gpt-oss-120b", "mxfp4")
    paces = [
        steady_state(reduced, traits, ClosedLoop(clients, 1000, 500), 2048, reserved=False, moe=True).tpot_s()
        for clients in (1, 2, 4, 8, 16, 64, 256, 1024)
    ]
    assert paces == sorted(paces)
