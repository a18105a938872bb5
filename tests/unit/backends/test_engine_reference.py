"""The jumping engine against a naive one that takes a step and a lane at a time: equal to the nanosecond."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from backends.emulator.engine import Engine
from backends.emulator.traits import GPU
from tests.engines import END_NS, LinearPhysics, NaiveEngine, engine

SYSTEMS = 3


class Ask(NamedTuple):
    """An arrival: its gap to the one before, its sizes, and whether one so far is cancelled then."""

    gap_ns: int
    prompt: int
    lengths: list[int]
    priority: int
    system: int
    shared_blocks: int
    cancels: bool


ASKS = st.lists(
    st.builds(
        Ask,
        st.integers(0, 400_000_000),
        st.integers(1, 3000),
        st.lists(st.integers(1, 150), min_size=1, max_size=3),
        st.sampled_from([0, 0, 0, 5, -5]),
        st.integers(0, SYSTEMS - 1),
        st.integers(0, 60),
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
)


def chain(ask: Ask, number: int) -> list[int]:
    """Block names: the first few shared by whoever has the same system prompt, the rest its own."""
    whole = ask.prompt // GPU.kv_block_tokens
    shared = min(whole, ask.shared_blocks)
    return [ask.system * 1000 + place for place in range(shared)] + [
        10**6 + number * 1000 + place for place in range(whole - shared)
    ]


def play(machine: Engine | NaiveEngine, asks: list[Ask], *, prefixes: bool, stops_ns: int = 0) -> list[Any]:
    """Submit and cancel; `stops_ns` > 0 advances in steps of that size between arrivals. Returns the jobs."""
    now, rng = 0, random.Random(7)
    jobs: list[Any] = []
    for number, ask in enumerate(asks):
        then = now + ask.gap_ns
        while stops_ns and now + stops_ns < then:
            now += stops_ns
            machine.advance(now)
        now = then
        machine.advance(now)
        prefix = chain(ask, number) if prefixes else None
        jobs.append(machine.submit(now, ask.prompt, ask.lengths, priority=ask.priority, prefix=prefix))
        if ask.cancels:
            machine.cancel(rng.choice(jobs), now)
    machine.advance(END_NS)
    return jobs


@settings(max_examples=150, deadline=None)
@given(
    asks=ASKS,
    room=st.sampled_from([3600, 5000, 9000, 50_000]),
    slots=st.sampled_from([3, 6, 16]),
    prefixes=st.booleans(),
)
def test_it_decides_and_bills_as_one_step_and_one_lane_at_a_time_would(
    asks: list[Ask], room: int, slots: int, prefixes: bool
) -> None:
    physics = LinearPhysics(kv_room_tokens=room, max_sequences=slots)
    jumping, naive = Engine(physics, GPU, 1, 0.0, 0.0), NaiveEngine(physics)
    jumped, stepped = play(jumping, asks, prefixes=prefixes), play(naive, asks, prefixes=prefixes)
    for job, other in zip(jumped, stepped, strict=True):
        assert (job.scheduled_ns, job.first_token_ns, job.ended_ns) == (
            other.scheduled_ns,
            other.first_token_ns,
            other.ended_ns,
        )
        assert job.prompt_ns + job.completion_ns == other.bill_ns
        assert (job.prefilled, job.cached_tokens, job.preemptions) == (other.prefilled, other.cached, other.preemptions)
        made = [lane.produced for lane in job.lanes_made] or [0] * len(job.lengths)
        assert made == [lane.produced for lane in other.lanes]
    assert jumping.busy_ns == naive.busy_ns


def test_the_comparison_covers_preemption_and_hits() -> None:
    """The cases above are only worth something if the rare things happen in them."""
    rng = random.Random(5)
    asks = [
        Ask(rng.randrange(10**8), rng.randint(200, 3000), [150], 0, rng.randrange(3), rng.randrange(60), False)
        for _ in range(60)
    ]
    machine = engine(noise=0.0, kv_room_tokens=5000)
    play(machine, asks, prefixes=True)
    assert machine.preemptions > 3
    assert machine.recomputed_tokens > 1000
    assert 0 < machine.prefix_hits_tokens < machine.prefix_queries_tokens
