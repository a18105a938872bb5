"""An engine that is scaled to zero when idle: it warms up for as long as is declared, and bills nobody for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from backends import registry
from backends.clock import VirtualClock
from backends.emulator.backend import EmulatedBackend
from backends.emulator.cold import ColdEngine
from backends.emulator.fork import forecast
from backends.emulator.traits import GPU
from backends.types import ColdStart, Event, GenerationRequest
from tests.engines import LinearPhysics, engine
from tests.sheets import sheets, spec_of

S = 1_000_000_000
DECLARED = ColdStart(90.0, 600.0)


def cold(declared: ColdStart = DECLARED, noise: float = 0.08) -> ColdEngine:
    return ColdEngine(declared, LinearPhysics(), GPU, 1, noise, noise)


def played(made: ColdEngine) -> None:
    while (next_ns := made.next_event_ns()) is not None:
        made.advance(next_ns)


def test_the_first_step_begins_when_it_is_warm_and_takes_what_it_would_have() -> None:
    made, usual = cold(), engine()
    job, other = made.submit(0, 100, (5,)), usual.submit(0, 100, (5,))
    assert made.warming
    assert made.next_event_ns() == made.next_token_ns(10 * S) == 90 * S
    assert (made.waiting, made.running, made.demand()) == (1, 0, 1)
    while usual.next_event_ns() is not None:
        usual.advance(usual.next_event_ns() or 0)
    played(made)
    assert other.ended_ns is not None
    assert job.ended_ns == 90 * S + other.ended_ns, "noise of steps is the same, warming up has none"
    assert made.share_ns(job) == usual.share_ns(other), "nobody answers for warming up"
    assert made.busy_and_idle_ns(job.ended_ns) == (other.ended_ns, 90 * S), "it is idle time"


def test_who_comes_while_it_warms_up_waits_with_the_others() -> None:
    made = cold()
    first = made.submit(0, 100, (5,))
    made.advance(60 * S)
    second = made.submit(60 * S, 100, (5,))
    played(made)
    assert first.scheduled_ns == second.scheduled_ns == 90 * S


def test_it_is_cold_again_when_it_has_been_idle_for_long_and_its_prefixes_are_lost() -> None:
    made = cold()
    made.submit(0, 64, (5,), prefix=(1, 2, 3, 4))
    played(made)
    ended_ns = made._now_ns
    made.advance(ended_ns + 599 * S)
    again = made.submit(ended_ns + 599 * S, 64, (5,), prefix=(1, 2, 3, 4))
    played(made)
    assert (again.scheduled_ns, again.cached_tokens) == (ended_ns + 599 * S, 48)
    idle_ns = made._now_ns
    made.advance(idle_ns + 600 * S)
    last = made.submit(idle_ns + 600 * S, 64, (5,), prefix=(1, 2, 3, 4))
    played(made)
    assert (last.scheduled_ns, last.cached_tokens) == (idle_ns + 690 * S, 0)


def test_one_that_starts_warm_begins_at_once() -> None:
    made = cold(ColdStart(90.0, 600.0, "warm"))
    assert made.submit(0, 100, (5,)).scheduled_ns == 0


def test_it_warms_up_for_nobody_and_stays_warm_from_then() -> None:
    made = cold()
    made.wake(0)
    made.advance(10 * S)
    made.wake(10 * S)
    assert made.next_event_ns() == 90 * S
    made.advance(689 * S)
    assert made.next_event_ns() is None
    made.wake(689 * S)
    assert made.next_event_ns() is None, "a warm one is left as it is"
    assert made.submit(689 * S, 100, (5,)).scheduled_ns == 689 * S


def test_who_leaves_while_it_warms_up_is_gone_and_the_others_are_served() -> None:
    made = cold()
    first, second = made.submit(0, 100, (5,)), made.submit(0, 100, (5,))
    made.advance(30 * S)
    made.cancel(first, 30 * S)
    made.cancel(first, 30 * S)
    assert (first.ended_ns, made.waiting, made.next_event_ns()) == (30 * S, 1, 90 * S)
    made.cancel(second, 30 * S)
    made.advance(90 * S)
    assert (made.next_event_ns(), made.demand()) == (None, 0)
    assert made.busy_and_idle_ns(90 * S) == (0, 90 * S)
    assert made.submit(90 * S, 100, (5,)).scheduled_ns == 90 * S, "it is warm nonetheless"


def test_a_forecast_knows_of_the_warm_up_and_changes_nothing() -> None:
    made = cold(noise=0.0)
    fate = forecast(made, 0, 100, (5,))
    assert fate.first_token_ns > 90 * S
    assert made.next_event_ns() is None
    job = made.submit(0, 100, (5,))
    assert forecast(made, 0, 100, (5,)).first_token_ns >= fate.first_token_ns
    played(made)
    assert (job.first_token_ns, job.ended_ns) == fate


def test_cutting_time_elsewhere_changes_nothing() -> None:
    ends = []
    for cut_ns in (S, 7 * S, 1000 * S):
        made = cold()
        job = made.submit(0, 1000, (50,))
        at_ns = 0
        while job.ended_ns is None:
            at_ns += cut_ns
            made.advance(at_ns)
        ends.append((job.first_token_ns, job.ended_ns, made.busy_ns))
    assert ends[0] == ends[1] == ends[2]


@pytest.mark.parametrize("woken", [False, True])
async def test_a_backend_in_wall_time_answers_when_it_is_warm(woken: bool) -> None:
    clock = VirtualClock()
    spec = replace(spec_of("gpu"), cold_start=DECLARED)
    backend = registry.build(spec, sheets(), clock)
    assert isinstance(backend, EmulatedBackend)
    await backend.start()
    if woken:
        backend.warm()
        await clock.advance_to(50 * S)

    async def first() -> tuple[Event, int]:
        generation = backend.generate(GenerationRequest("r", "chat", "llama-3.1-8b", ("one two",), 9, stream=True))
        event = await anext(generation)
        await generation.aclose()
        return event, clock.now_ns()

    task = asyncio.create_task(first())
    await clock.advance_to(90 * S)
    assert not task.done()
    await clock.advance_to(91 * S)
    assert task.done()
    assert backend.snapshot().busy_ns < S
    await backend.aclose()


async def test_a_backend_that_is_never_cold_takes_no_notice_of_being_woken() -> None:
    backend = registry.build(spec_of("gpu"), sheets(), VirtualClock())
    await backend.start()
    backend.warm()
    assert backend.snapshot().waiting == 0
    await backend.aclose()
