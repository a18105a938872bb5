"""A forked engine goes on as the original would, and is never noticed by it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.emulator.engine import Engine
from backends.emulator.fork import forecast, forecast_all, fork
from backends.emulator.jobs import Job
from backends.emulator.traits import GPU, Traits
from tests.engines import END_NS, PIPELINE, STATIC, engine

ARRIVALS = st.lists(
    st.tuples(st.integers(0, 400_000_000), st.integers(1, 6000), st.lists(st.integers(1, 120), min_size=1, max_size=2)),
    min_size=1,
    max_size=20,
)


def fates(jobs: list[Job]) -> list[tuple[object, ...]]:
    return [(job.first_token_ns, job.ended_ns, job.prompt_ns, job.completion_ns, job.cached_tokens) for job in jobs]


def play(machine: Engine, arrivals: list[tuple[int, int, list[int]]], forks: bool) -> list[Job]:
    """Run arrivals that share prefixes, some of which are cancelled; with `forks` a fork is run ahead at each."""
    now_ns, jobs, rng = 0, [], random.Random(3)
    for gap, prompt, lengths in arrivals:
        now_ns += gap
        machine.advance(now_ns)
        family = rng.randrange(3) * 1000
        prefix = [family + block for block in range(prompt // 16)]
        if forks:
            fork(machine).advance(END_NS)
            forecast(machine, now_ns, prompt, lengths, prefix)
        jobs.append(machine.submit(now_ns, prompt, lengths, prefix=prefix))
        if rng.random() < 0.2:
            machine.cancel(rng.choice(jobs), now_ns)
    machine.advance(END_NS)
    return jobs


@pytest.mark.parametrize("traits", [GPU, STATIC, PIPELINE], ids=["gpu", "static", "pipeline"])
@settings(max_examples=40, deadline=None)
@given(arrivals=ARRIVALS)
def test_running_a_fork_ahead_is_never_noticed(traits: Traits, arrivals: list[tuple[int, int, list[int]]]) -> None:
    alone, watched = engine(traits, kv_room_tokens=8_000), engine(traits, kv_room_tokens=8_000)
    assert fates(play(alone, arrivals, False)) == fates(play(watched, arrivals, True))
    assert (alone.busy_ns, alone.steps, alone.preemptions) == (watched.busy_ns, watched.steps, watched.preemptions)


@pytest.mark.parametrize("traits", [GPU, STATIC, PIPELINE], ids=["gpu", "static", "pipeline"])
@settings(max_examples=40, deadline=None)
@given(arrivals=ARRIVALS, at=st.integers(0, 4_000_000_000))
def test_a_noisy_fork_goes_on_as_the_original_would(
    traits: Traits, arrivals: list[tuple[int, int, list[int]]], at: int
) -> None:
    machine, now_ns = engine(traits, kv_room_tokens=8_000), 0
    for gap, prompt, lengths in arrivals:
        now_ns += gap
        machine.advance(now_ns)
        machine.submit(now_ns, prompt, lengths, prefix=list(range(prompt // 16)))
    machine.advance(now_ns + at)
    twin = fork(machine, noisy=True)
    for each in (machine, twin):
        each.news = []
        each.advance(END_NS)
        each.submit(END_NS, 500, [20])
        each.advance(2 * END_NS)
    assert machine.news is not None
    assert twin.news is not None
    assert fates(machine.news) == fates(twin.news)
    assert machine.busy_and_idle_ns(2 * END_NS) == twin.busy_and_idle_ns(2 * END_NS)


def test_without_noise_a_forecast_comes_true_if_nothing_else_arrives() -> None:
    machine = engine(noise=0.0)
    for number in range(12):
        machine.submit(0, 700 + number, [40 + number])
    machine.advance(300_000_000)
    fate = forecast(machine, 300_000_000, 900, [30])
    job = machine.submit(300_000_000, 900, [30])
    machine.advance(END_NS)
    assert fate == (job.first_token_ns, job.ended_ns)


def test_news_tells_of_first_tokens_and_ends_and_of_nothing_else() -> None:
    machine = engine(max_sequences=4)
    news: list[Job] = []
    machine.news = news
    jobs = [machine.submit(0, 200, [length]) for length in (1, 5, 9)]
    gone = machine.submit(0, 200, [50])
    told: list[tuple[Job, bool]] = []
    while (next_ns := machine.next_event_ns()) is not None:
        machine.advance(next_ns)
        told += [(job, job.ended_ns is not None) for job in news]
        news.clear()
        if gone.first_token_ns is not None and gone.ended_ns is None:
            machine.cancel(gone, next_ns)
    first, second, third = jobs
    assert told[:2] == [(first, True), (first, True)]
    assert told[2:5] == [(second, False), (third, False), (gone, False)]
    assert told[5:] == [(second, True), (third, True)]


def test_what_is_certain_need_not_be_played_and_is_never_too_early() -> None:
    machine = engine(noise=0.0)
    for number in range(10):
        machine.submit(0, 300 + number, [60 + 9 * number])
    machine.advance(400_000_000)
    exact = forecast_all(machine, 400_000_000, 900, [30])
    bounds = forecast_all(machine, 400_000_000, 900, [30], latest=lambda job, first_ns: float("inf"))
    late = forecast_all(machine, 400_000_000, 900, [30], latest=lambda job, first_ns: 0.0)
    assert late == exact
    assert bounds.newcomer.first_token_ns == exact.newcomer.first_token_ns
    assert bounds.residents.keys() == exact.residents.keys()
    assert exact.newcomer.ended_ns <= bounds.newcomer.ended_ns < exact.newcomer.ended_ns * 1.5
    for job, fate in exact.residents.items():
        assert fate.first_token_ns == bounds.residents[job].first_token_ns
        assert fate.ended_ns <= bounds.residents[job].ended_ns


def everything(thing: object, seen: dict[int, int]) -> object:
    """All that is reachable from it, as values: objects by the order in which they are met first."""
    if isinstance(thing, int | float | str | None):
        return thing
    if id(thing) in seen:
        return seen[id(thing)]
    seen[id(thing)] = len(seen)
    if isinstance(thing, dict):
        return [(everything(key, seen), everything(value, seen)) for key, value in thing.items()]
    if isinstance(thing, list | tuple):
        return [everything(each, seen) for each in thing]
    if isinstance(thing, random.Random):
        return thing.getstate()
    names: list[str] = list(getattr(type(thing), "__slots__", ())) or list(getattr(thing, "__dict__", ()))
    return [(name, everything(getattr(thing, name), seen)) for name in sorted(names)]


@pytest.mark.parametrize("traits", [GPU, STATIC, PIPELINE], ids=["gpu", "static", "pipeline"])
def test_nothing_is_forgotten(traits: Traits) -> None:
    machine = engine(traits, kv_room_tokens=8_000)
    rng = random.Random(5)
    for round_ in range(60):
        now_ns = round_ * 150_000_000
        machine.advance(now_ns)
        blocks = [round_ % 4 * 1000 + block for block in range(30)]
        machine.submit(now_ns, 500 + rng.randrange(900), [rng.randrange(1, 200)], prefix=blocks, priority=round_ % 2)
    twin = fork(machine, noisy=True)
    # A heap of ends names lanes that have left by a stand-in, and a bound method is of its own object.
    for each in (machine, twin):
        each._batch._ends = [
            (end, number, lane, job) for end, number, lane, job in each._batch._ends if lane.end == end
        ]
        each._pace._bits = None  # type: ignore[assignment]
    assert everything(twin, {}) == everything(machine, {})
    assert machine.waiting
    assert machine.running
