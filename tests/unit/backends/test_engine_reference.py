"""The jumping engine against a naive one that takes a step and a lane at a time: equal to the nanosecond."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from backends.emulator.engine import Engine
from backends.emulator.traits import GPU, Traits
from tests.engines import END_NS, LinearPhysics, NaiveEngine

SYSTEMS = 3
TRAITS = [
    replace(GPU, schedule_ahead=ahead, prefill_budget=budget) for ahead in (False, True) for budget in (512, 2048)
]


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


def agree(asks: list[Ask], physics: LinearPhysics, traits: Traits, *, prefixes: bool, stops_ns: int = 0) -> Engine:
    """Both engines play the same and must decide, time and bill the same."""
    jumping, naive = Engine(physics, traits, 1, 0.0, 0.0), NaiveEngine(physics, traits)
    jumped = play(jumping, asks, prefixes=prefixes, stops_ns=stops_ns)
    for job, other in zip(jumped, play(naive, asks, prefixes=prefixes), strict=True):
        times = (job.scheduled_ns, job.first_token_ns, job.ended_ns)
        assert times == (other.scheduled_ns, other.first_token_ns, other.ended_ns)
        assert job.prompt_ns + job.completion_ns == other.bill_ns
        assert (job.prefilled, job.cached_tokens, job.preemptions) == (other.prefilled, other.cached, other.preemptions)
        made = [lane.produced for lane in job.lanes_made] or [0] * len(job.lengths)
        assert made == [lane.produced for lane in other.lanes]
    assert jumping.busy_ns == naive.busy_ns
    return jumping


@settings(max_examples=150, deadline=None)
@given(
    asks=ASKS,
    room=st.sampled_from([3600, 5000, 9000, 50_000]),
    slots=st.sampled_from([3, 6, 16]),
    traits=st.sampled_from(TRAITS),
    prefixes=st.booleans(),
)
def test_it_decides_and_bills_as_one_step_and_one_lane_at_a_time_would(
    asks: list[Ask], room: int, slots: int, traits: Traits, prefixes: bool
) -> None:
    agree(asks, LinearPhysics(kv_room_tokens=room, max_sequences=slots), traits, prefixes=prefixes)


def test_they_agree_where_memory_is_short_and_the_rare_things_happen() -> None:
    """Long random runs, where hypothesis prefers short ones; worth something only with preemptions and hits in them."""
    preempted = hits = recomputed = 0
    for seed in range(250):
        rng = random.Random(seed)
        asks = [
            Ask(
                rng.choice([0, rng.randrange(10**7), rng.randrange(4 * 10**8)]),
                rng.choice([rng.randint(1, 40), rng.randint(1, 3000)]),
                [rng.randint(1, 150) for _ in range(rng.randint(1, 3))],
                rng.choice([0, 0, 0, 5, -5]),
                rng.randrange(SYSTEMS),
                rng.randrange(60),
                rng.random() < 0.2,
            )
            for _ in range(rng.randint(1, 40))
        ]
        physics = LinearPhysics(kv_room_tokens=rng.choice([3600, 5000, 9000]), max_sequences=rng.choice([6, 16]))
        machine = agree(
            asks, physics, rng.choice(TRAITS), prefixes=rng.random() < 0.6, stops_ns=rng.choice([0, 0, 3_000_001])
        )
        preempted += machine.preemptions
        hits += machine.prefix_hits_tokens
        recomputed += machine.recomputed_tokens
    assert preempted > 100
    assert hits > 10_000
    assert recomputed > 10_000
