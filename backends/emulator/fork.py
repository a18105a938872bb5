"""A copy of an engine that can be run ahead, to see what will become of a request: the forecast nobody has in reality.

The copy shares nothing that either of them changes, so that running it ahead is never noticed by the original. Without
noise its steps take what the physics say; the step in progress keeps the time it was given.

Everything is copied attribute by attribute: it is faster than `copy.copy`, which besides knows nothing of the classes
of a compiled build. A test asks that none be forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from backends.emulator.batch import Batch
from backends.emulator.chain import Chain
from backends.emulator.cold import ColdEngine
from backends.emulator.engine import Engine
from backends.emulator.jobs import Job, Lane
from backends.emulator.kv_cache import KvCache
from backends.emulator.prefix_cache import PrefixCache, Run
from backends.emulator.segment import Segment
from backends.emulator.waiting import WaitingLine

_GONE = Lane(0, 1)

LOOK_STEPS = 16
"""Events between two looks at whether the rest need be played."""

Latest = Callable[[Job, int], float]


class Fate(NamedTuple):
    """When a request would have its first token and its last, in the engine's nanoseconds."""

    first_token_ns: int
    ended_ns: int


class Ahead(NamedTuple):
    """What would become of a newcomer, and of everyone who is there already."""

    newcomer: Fate
    residents: dict[Job, Fate]


def forecast(
    engine: Engine, now_ns: int, prompt_tokens: int, lengths: Sequence[int], prefix: Chain | Sequence[int] | None = None
) -> Fate:
    """What would become of a request submitted now if nothing else arrived; `engine` has been advanced to `now_ns`.

    Raises: ValueError for a request that even an empty engine could not hold.
    """
    ahead, _ = _forked(engine, noisy=False)
    job = ahead.submit(now_ns, prompt_tokens, lengths, prefix=prefix)
    while job.ended_ns is None:
        _step(ahead)
    return _fate(job)


def forecast_all(
    engine: Engine,
    now_ns: int,
    prompt_tokens: int,
    lengths: Sequence[int],
    prefix: Chain | Sequence[int] | None = None,
    latest: Latest | None = None,
) -> Ahead:
    """The same, and what would become of everyone who is there already.

    `latest(job, first_token_ns)` is by when a job must have ended (whoever asks has not seen the newcomer's): once it
    is certain that all will, the rest is not played, and ends are upper bounds of at most that.
    Raises: ValueError.
    """
    ahead, jobs = _forked(engine, noisy=False)
    job = ahead.submit(now_ns, prompt_tokens, lengths, prefix=prefix)
    everybody = {**jobs, job: job}
    look_in = 0
    while ahead.next_event_ns() is not None:
        _step(ahead)
        if latest is not None and job.first_token_ns is not None:
            if look_in == 0 and (ends := _certain(ahead, everybody, latest)) is not None:
                return Ahead(ends.pop(job), ends)
            look_in = (look_in + 1) % LOOK_STEPS
    return Ahead(_fate(job), {each: _fate(twin) for each, twin in jobs.items()})


def _certain(ahead: Engine, jobs: Mapping[Job, Job], latest: Latest) -> dict[Job, Fate] | None:
    """Upper bounds of everybody's end, if all of them are early enough; None if that is not certain.

    Between now and then lanes only leave, and a step takes no longer for it: with as many as there are now, all ends
    are late. That holds only if nobody waits or reads a prompt, and KV does not run out.
    """
    if ahead._waiting.size or ahead._prefilling or ahead._ahead:
        return None
    count, segment = ahead._batch.count, ahead._segment
    fates: dict[Job, Fate] = {}
    furthest = 0
    for each, twin in jobs.items():
        first_ns, end_ns = twin.first_token_ns, twin.ended_ns
        assert first_ns is not None
        if end_ns is None:
            steps = max([lane.end for lane in twin.lanes]) - count
            furthest = max(furthest, steps)
            end_ns = segment.end_of(steps)
        if end_ns > latest(each, first_ns):
            return None
        fates[each] = Fate(first_ns, end_ns)
    return None if ahead._kv.full(count + furthest) else fates


def residents(engine: Engine) -> dict[Job, Fate]:
    """What would become of everyone who is there if nothing else arrived."""
    ahead, jobs = _forked(engine, noisy=False)
    while ahead.next_event_ns() is not None:
        _step(ahead)
    return {each: _fate(twin) for each, twin in jobs.items()}


def fork(engine: Engine, *, noisy: bool = False) -> Engine:
    """An independent copy in the same state; with `noisy` it goes on exactly as the original would."""
    return _forked(engine, noisy=noisy)[0]


def _forked(engine: Engine, *, noisy: bool) -> tuple[Engine, dict[Job, Job]]:
    twin = _counters(engine, _blank(engine))
    runs, kv = _kv(engine._kv)
    copies = _Copies(runs)
    twin._kv = kv
    twin._pace = engine._pace.fork(noisy=noisy)
    twin._segment = _segment(engine._segment)
    twin._chunks = list(engine._chunks)
    twin._admitted = dict.fromkeys([copies.job(job) for job in engine._admitted])
    twin._waiting = _waiting(engine._waiting, copies)
    twin._prefilling = [copies.job(job) for job in engine._prefilling]
    twin._ahead = [copies.job(job) for job in engine._ahead]
    twin._batch = _batch(engine._batch, copies)
    return twin, copies.jobs


def _blank(engine: Engine) -> Engine:
    """An empty engine of the same making."""
    physics, traits = engine._pace.physics, engine._traits
    if not isinstance(engine, ColdEngine):
        return Engine(physics, traits, 0, 0.0, 0.0)
    twin = ColdEngine(engine._cold_start, physics, traits, 0, 0.0, 0.0)
    twin._warm_ns = engine._warm_ns
    return twin


def _counters(engine: Engine, twin: Engine) -> Engine:
    twin.busy_ns, twin.steps = engine.busy_ns, engine.steps
    twin.preemptions, twin.recomputed_tokens = engine.preemptions, engine.recomputed_tokens
    twin.prefix_queries_tokens, twin.prefix_hits_tokens = engine.prefix_queries_tokens, engine.prefix_hits_tokens
    twin._chunk_tokens, twin._decoding = engine._chunk_tokens, engine._decoding
    twin._reserved_lanes, twin._carry_ns = engine._reserved_lanes, engine._carry_ns
    twin._end_ns, twin._now_ns = engine._end_ns, engine._now_ns
    twin._idle_ns, twin._idle_since_ns = engine._idle_ns, engine._idle_since_ns
    return twin


def _step(ahead: Engine) -> None:
    next_ns = ahead.next_event_ns()
    assert next_ns is not None, "a job in an engine is worked on"
    ahead.advance(next_ns)


def _fate(job: Job) -> Fate:
    assert job.first_token_ns is not None
    assert job.ended_ns is not None
    return Fate(job.first_token_ns, job.ended_ns)


class _Copies:
    """Jobs and lanes, each copied once."""

    def __init__(self, runs: dict[Run, Run]) -> None:
        self._runs = runs
        self.jobs: dict[Job, Job] = {}
        self.lanes: dict[Lane, Lane] = {}

    def job(self, job: Job) -> Job:
        """The copy of a job."""
        twin = self.jobs.get(job)
        if twin is None:
            twin = self.jobs[job] = _job(job)
            if job.run is not None:
                twin.run = self._runs[job.run]
            if job.lanes_made:
                lanes = self.lanes
                made = [_lane(lane) for lane in job.lanes_made]
                lanes.update(zip(job.lanes_made, made, strict=True))
                twin.lanes_made = tuple(made)
                twin.lanes = [lanes[lane] for lane in job.lanes]
        return twin


def _job(job: Job) -> Job:
    """A copy with the same lanes."""
    twin = Job(job.prompt_tokens, job.lengths, job.priority, job.prefix, job.queued_ns)
    twin.scheduled_ns = job.scheduled_ns
    twin.first_token_ns = job.first_token_ns
    twin.last_token_ns = job.last_token_ns
    twin.ended_ns = job.ended_ns
    twin.prompt_ns = job.prompt_ns
    twin.completion_ns = job.completion_ns
    twin.prefilled = job.prefilled
    twin.cached_tokens = job.cached_tokens
    twin.preemptions = job.preemptions
    twin.width = job.width
    twin.position = job.position
    twin.target = job.target
    twin.blocks = job.blocks
    twin.shared_blocks = job.shared_blocks
    return twin


def _lane(lane: Lane) -> Lane:
    twin = Lane(lane.index, lane.length)
    twin.joined = lane.joined
    twin.end = lane.end
    twin.share_from = lane.share_from
    twin.produced = lane.produced
    return twin


def _segment(segment: Segment) -> Segment:
    twin = Segment()
    twin.start_ns, twin.anchor_ns = segment.start_ns, segment.anchor_ns
    twin.first_ns, twin.slope_ns = segment.first_ns, segment.slope_ns
    twin.steps, twin.done = segment.steps, segment.done
    return twin


def _batch(batch: Batch, copies: _Copies) -> Batch:
    twin = Batch()
    twin.lanes, twin.context_tokens, twin.count = batch.lanes, batch.context_tokens, batch.count
    twin.share_sum_ns, twin._joins, twin._stale = batch.share_sum_ns, batch._joins, batch._stale
    lanes = copies.lanes
    # Entries of lanes that have left this admission say nothing but how stale the heap is.
    twin._ends = [
        (end, number, lanes[lane], copies.job(job)) if lane.end == end else (end, number, _GONE, job)
        for end, number, lane, job in batch._ends
    ]
    return twin


def _waiting(line: WaitingLine, copies: _Copies) -> WaitingLine:
    twin = WaitingLine()
    twin.size, twin.lanes = line.size, line.lanes
    twin._lines = {
        priority: OrderedDict.fromkeys([copies.job(job) for job in jobs]) for priority, jobs in line._lines.items()
    }
    twin._first = next(twin._lines[priority] for priority, jobs in line._lines.items() if jobs is line._first)
    return twin


def _kv(kv: KvCache) -> tuple[dict[Run, Run], KvCache]:
    twin = KvCache(kv.room * kv.block, kv.block)
    twin.held, twin.lanes, twin._laps = kv.held, kv.lanes, kv._laps
    twin._ring = list(kv._ring)
    runs, twin.prefix = _prefix(kv.prefix)
    return runs, twin


def _prefix(cache: PrefixCache) -> tuple[dict[Run, Run], PrefixCache]:
    """Every run anew: the parent of a run may be one that is no head any more, so the chains are followed."""
    twin = PrefixCache()
    twin.held_blocks, twin.idle_blocks = cache.held_blocks, cache.idle_blocks
    runs: dict[Run, Run] = {}
    for run in cache._heads.values():
        chain: list[Run] = []
        above: Run | None = run
        while above is not None and above not in runs:
            chain.append(above)
            above = above.parent
        for each in reversed(chain):
            parent = None if each.parent is None else runs[each.parent]
            runs[each] = Run(each.hashes, parent, each.holders)
    twin._heads = {name: runs[run] for name, run in cache._heads.items()}
    twin._idle = OrderedDict.fromkeys([runs[run] for run in cache._idle])
    return runs, twin
