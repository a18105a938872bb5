"""What must hold of the engine whatever happens to it: blocks, order, speed, preemption, replay."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.clock import SystemClock
from backends.emulator.backend import EmulatedGeneration
from backends.emulator.chain import Chain
from backends.emulator.engine import Engine
from backends.emulator.jobs import Job
from backends.emulator.prefix_cache import PrefixCache
from backends.emulator.traits import GPU, Traits
from backends.types import EmulationSpec, GenerationRequest
from tests.engines import END_NS, PIPELINE, STATIC, LinearPhysics, RecordingEngine, engine, recording_backend, replayed
from tests.sheets import spec_of
from tests.unit.backends.test_engine_reference import ASKS, Ask, chain, play

KINDS = pytest.mark.parametrize("traits", [GPU, STATIC, PIPELINE], ids=["gpu", "static", "pipeline"])
TIGHT_TOKENS = 3600


def fate(job: Job) -> tuple[object, ...]:
    """All that was decided about a job."""
    made = [lane.produced for lane in job.lanes_made]
    return (
        *job.timing,
        job.ended_ns,
        job.prefilled,
        job.cached_tokens,
        job.preemptions,
        made,
        job.prompt_ns,
        job.completion_ns,
    )


@KINDS
@settings(max_examples=40, deadline=None)
@given(asks=ASKS, prefixes=st.booleans(), step_ns=st.integers(500_000, 50_000_000))
def test_with_little_memory_nothing_is_lost_and_where_time_is_cut_changes_nothing(
    traits: Traits, asks: list[Ask], prefixes: bool, step_ns: int
) -> None:
    whole, cut = engine(traits, kv_room_tokens=TIGHT_TOKENS), engine(traits, kv_room_tokens=TIGHT_TOKENS)
    jobs = play(whole, asks, prefixes=prefixes)
    assert list(map(fate, jobs)) == list(map(fate, play(cut, asks, prefixes=prefixes, stops_ns=step_ns)))
    assert sum(job.prompt_ns + job.completion_ns for job in jobs) == whole.busy_ns
    busy_ns, idle_ns = whole.busy_and_idle_ns(END_NS)
    assert busy_ns + idle_ns == END_NS
    assert (whole.running, whole.waiting, whole.demand(), whole.kv_used_ratio) == (0, 0, 0, 0.0)


@settings(max_examples=40, deadline=None)
@given(asks=ASKS)
def test_who_is_not_cancelled_gets_every_token_once_however_often_preempted(asks: list[Ask]) -> None:
    machine = engine(kv_room_tokens=TIGHT_TOKENS)
    jobs = play(machine, [ask._replace(cancels=False) for ask in asks], prefixes=True)
    for job in jobs:
        assert tuple(lane.produced for lane in job.lanes_made) == job.lengths
        assert job.prefilled == job.prompt_tokens
        assert 0 <= job.cached_tokens < job.prompt_tokens
        assert job.queued_ns <= job.scheduled_ns < job.first_token_ns <= job.last_token_ns == job.ended_ns


def test_a_preempted_job_is_read_again_keeps_its_tokens_and_pays_for_both() -> None:
    machine = engine(noise=0.0, kv_room_tokens=1440)
    first, second = machine.submit(0, 640, [160]), machine.submit(0, 640, [160])
    seen: list[int] = []
    now_ns = 0
    while (next_ns := machine.next_token_ns(now_ns)) is not None:
        now_ns = next_ns
        machine.advance(now_ns)
        assert machine.kv_used_ratio <= 1.0
        seen += [machine.produced(lane) for lane in second.lanes_made]
    assert (machine.preemptions, first.preemptions, second.preemptions) == (1, 0, 1)
    assert seen == sorted(seen)
    assert set(seen) == set(range(1, 161)), "each token came once, in order"
    assert 640 < machine.recomputed_tokens <= 640 + 160
    assert second.prompt_ns > 1.5 * first.prompt_ns
    assert second.ended_ns > first.ended_ns  # type: ignore[operator]


@settings(max_examples=60, deadline=None)
@given(asks=ASKS, room=st.sampled_from([TIGHT_TOKENS, 50_000]))
def test_blocks_in_use_are_what_the_jobs_hold_at_every_step(asks: list[Ask], room: int) -> None:
    """Counted from outside, from prompts and tokens made; copies of a shared block count once per holder there."""
    machine, block = engine(kv_room_tokens=room, noise=0.0), GPU.kv_block_tokens
    jobs: list[Job] = []
    now_ns = 0
    for ask in asks:
        until_ns = now_ns + ask.gap_ns
        while (next_ns := machine.next_token_ns(now_ns)) is not None and next_ns <= until_ns:
            now_ns = next_ns
            machine.advance(now_ns)
            used = machine.kv_used_ratio * (room // block)
            counted = sum(held(machine, job) for job in jobs)
            assert used == pytest.approx(counted)
        now_ns = until_ns
        machine.advance(now_ns)
        jobs.append(machine.submit(now_ns, ask.prompt, ask.lengths))


def held(machine: Engine, job: Job) -> int:
    """Blocks of a job by the rule: its prompt's while it holds a slot, and each open answer's."""
    block = GPU.kv_block_tokens
    if job.ended_ns is not None or not job.blocks:
        return 0
    prompt = -(-job.prompt_tokens // block)
    if not job.lanes:
        return prompt + len(job.lengths)
    reading = job.position < job.target
    return prompt + sum(-(-(machine.produced(lane) + reading) // block) for lane in job.lanes)


@settings(max_examples=60, deadline=None)
@given(asks=ASKS, at_ns=st.integers(0, 2_000_000_000), prefixes=st.booleans())
def test_cancelling_frees_slots_and_blocks_before_it_returns(asks: list[Ask], at_ns: int, prefixes: bool) -> None:
    machine = engine(kv_room_tokens=TIGHT_TOKENS)
    jobs = [
        machine.submit(
            0, ask.prompt, ask.lengths, priority=ask.priority, prefix=chain(ask, number) if prefixes else None
        )
        for number, ask in enumerate(asks)
    ]
    machine.advance(at_ns)
    for job in jobs:
        before = machine.demand()
        gone = job.width if job.ended_ns is None else 0
        machine.cancel(job, at_ns)
        assert machine.demand() == before - gone
        machine.cancel(job, at_ns)
    assert (machine.running, machine.waiting, machine.kv_used_ratio) == (0, 0, 0.0)
    assert machine.next_event_ns() is None
    assert sum(job.prompt_ns + job.completion_ns for job in jobs) == machine.busy_ns


@settings(max_examples=40, deadline=None)
@given(asks=ASKS)
def test_prefix_hits_change_times_and_never_tokens(asks: list[Ask]) -> None:
    kept = [ask._replace(cancels=False) for ask in asks]
    with_hits, without = engine(noise=0.0), engine(noise=0.0)
    for job, other in zip(play(with_hits, kept, prefixes=True), play(without, kept, prefixes=False), strict=True):
        assert [lane.produced for lane in job.lanes_made] == [lane.produced for lane in other.lanes_made]
        assert job.prefilled == other.prefilled
        assert other.cached_tokens == 0
    assert (without.prefix_queries_tokens, without.prefix_hits_tokens) == (0, 0)
    assert with_hits.prefix_queries_tokens == sum(ask.prompt for ask in kept)


@settings(max_examples=60, deadline=None)
@given(priorities=st.lists(st.integers(-3, 3), min_size=1, max_size=30))
def test_who_waits_is_served_by_priority_and_then_in_order(priorities: list[int]) -> None:
    machine = engine(max_sequences=1)
    machine.submit(0, 100, [50])
    jobs = [machine.submit(1, 100, [5], priority=priority) for priority in priorities]
    machine.advance(END_NS)
    order = sorted(range(len(jobs)), key=lambda number: jobs[number].scheduled_ns or 0)
    assert order == sorted(range(len(jobs)), key=lambda number: -priorities[number])


def test_the_lowest_priority_is_preempted_first() -> None:
    machine = engine(noise=0.0, kv_room_tokens=1440)
    low, high = machine.submit(0, 640, [160], priority=-1), machine.submit(0, 640, [160], priority=1)
    machine.advance(END_NS)
    assert (low.preemptions, high.preemptions) == (1, 0)


@settings(max_examples=60, deadline=None)
@given(prompt=st.integers(1, 6000), length=st.integers(1, 2000), lanes=st.integers(1, 15))
def test_more_bandwidth_is_never_slower_and_a_larger_batch_never_faster_for_one(
    prompt: int, length: int, lanes: int
) -> None:
    def ends_ns(physics: LinearPhysics, answers: int) -> tuple[int, int]:
        machine = Engine(physics, GPU, 1, 0.0, 0.0)
        job = machine.submit(0, prompt, [length] * answers)
        machine.advance(END_NS)
        assert job.first_token_ns is not None
        assert job.ended_ns is not None
        return job.first_token_ns, job.ended_ns

    slow = LinearPhysics(kv_room_tokens=100_000)
    fast = replace(slow, base_ns=slow.base_ns // 2, context_ns=slow.context_ns // 2)
    assert fast.step_s(lanes, prompt) <= slow.step_s(lanes, prompt)
    alone = ends_ns(slow, 1)
    assert all(quick <= plain for quick, plain in zip(ends_ns(fast, 1), alone, strict=True))
    crowd = ends_ns(slow, lanes + 1)
    assert crowd[1] - crowd[0] >= alone[1] - alone[0]


def test_cancelled_ends_do_not_pile_up() -> None:
    machine = engine(max_sequences=16)
    now_ns = 0
    for _ in range(2000):
        job = machine.submit(now_ns, 10, [2000])
        now_ns += 30_000_000
        machine.advance(now_ns)
        machine.cancel(job, now_ns)
    assert len(machine._batch._ends) < 200
    assert not machine._admitted


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 20), st.integers(1, 20)), max_size=40), st.integers(5, 60))
def test_the_prefix_tree_keeps_what_a_block_by_block_lru_would(asks: list[tuple[int, int, int]], room: int) -> None:
    """Against the rule said plainly: a list of idle blocks, oldest first, deeper before shallower."""
    tree, idle = PrefixCache(), list[int]()
    for number, (system, shared, own) in enumerate(asks):
        names = [system * 100 + place for place in range(shared)] + [10**4 + number * 100 + at for at in range(own)]
        hits = next((place for place, name in enumerate(names) if name not in idle), len(names))
        chain = Chain(names)
        assert tree.match(chain, len(names)) == (hits, hits)
        place, run = tree.hold(chain, 0, hits, None)
        assert place == hits
        run = tree.add(chain, hits, len(names), run)
        idle = [name for name in idle if name not in names]
        assert (tree.held_blocks, tree.idle_blocks) == (len(names), len(idle))
        tree.release(run)
        idle += reversed(names)
        tree.trim(room)
        idle = idle[-room:]
        assert (tree.held_blocks, tree.idle_blocks) == (0, len(idle))


async def test_a_real_time_run_replayed_in_virtual_time_decides_the_same() -> None:
    """Streams, cancellations, queueing and prefix hits under the system clock; then the same calls without one."""
    spec = spec_of("cerebras", emulation=EmulationSpec(seed=4, max_sequences=6))
    backend, recorded = await recording_backend(spec, SystemClock())
    backend.prefix_block_tokens = 1  # this substrate has no prefix cache, but is quick: give it one
    rng = random.Random(9)
    generations: list[EmulatedGeneration] = []

    async def client(number: int) -> None:
        await asyncio.sleep(rng.random() * 0.2)
        prompt = "the same words " * rng.randint(1, 30) + f"and {number}"
        asked = GenerationRequest(
            f"r{number}", "chat", "llama-3.1-8b", (prompt,), rng.randint(1, 150), rng.choice((1, 2)),
            ignore_eos=True, stream=rng.random() < 0.7, priority=rng.choice((0, 0, 3)),
        )  # fmt: skip
        leaves_after = rng.choice((10**9, 10**9, 1, 5))
        generation = backend.generate(asked)
        generations.append(generation)
        seen = 0
        async for _ in generation:
            seen += 1
            if seen > leaves_after:
                break
        await generation.aclose()

    await asyncio.gather(*(client(number) for number in range(40)))
    await backend.aclose()
    assert isinstance(recorded, RecordingEngine)
    again, _ = replayed(recorded)
    assert list(map(fate, again)) == list(map(fate, recorded.jobs))
    assert any(arrival.cancels is not None for arrival in recorded.arrivals)
    assert any(job.cached_tokens for job in again)


@given(st.lists(st.integers(0, 9), max_size=5), st.integers(1, 4), st.data())
def test_a_chain_is_its_blocks_spelled_out(names: list[int], parts: int, data: st.DataObject) -> None:
    spelled = [name * parts + part for name in names for part in range(parts)]
    stop = data.draw(st.integers(0, len(spelled) + 3))
    chain, spelled = Chain(names, parts, 0, stop), spelled[:stop]
    start = data.draw(st.integers(0, len(spelled)))
    end = data.draw(st.integers(start, len(spelled)))
    for each, listed in ((chain, spelled), (chain.part(start, end), spelled[start:end])):
        assert [each.at(place) for place in range(len(each))] == listed
