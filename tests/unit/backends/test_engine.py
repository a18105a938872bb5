"""The engine's conservation laws, over random arrivals, cancellations and ways to cut time."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.emulator.engine import Engine
from backends.emulator.jobs import Job
from backends.emulator.roofline import Physics
from backends.emulator.traits import GPU, StaticShapes, Traits

STATIC = Traits(prefill="serial", static_shapes=StaticShapes(16, 2, 8, 4096, 1.0))
PIPELINE = Traits(law="pipeline", noisy=False)
END_NS = 10**13


def physics(**fields: object) -> Physics:
    defaults: dict[str, object] = {
        "layers": 80,
        "layer_s": 65e-6,
        "weights_s": 11e-3,
        "seconds_per_flop": 1 / (2 * 1979e12 * 0.6),
        "flops_per_token": 140e9,
        "attention_flops": 2 * 80 * 64 * 128,
        "kv_bytes_per_token": 327_680,
        "kv_seconds_per_byte": 1 / (2 * 3.35e12 * 0.9),
        "collective_s": 8e-6,
        "collective_s_per_token": 1e-8,
        "kv_room_tokens": 50_000,
        "pipeline": False,
        "max_sequences": 16,
    }
    return Physics(**(defaults | fields))  # type: ignore[arg-type]


def engine(traits: Traits = GPU, seed: int = 1, **fields: object) -> Engine:
    return Engine(physics(pipeline=traits.law == "pipeline", **fields), traits, seed, 0.08, 0.05)


ARRIVALS = st.lists(
    st.tuples(
        st.integers(0, 400_000_000),  # gap
        st.integers(1, 6000),  # prompt
        st.lists(st.integers(1, 120), min_size=1, max_size=3),  # lengths
        st.booleans(),  # cancel one of those submitted so far
    ),
    min_size=1,
    max_size=25,
)


def play(machine: Engine, arrivals: list[tuple[int, int, list[int], bool]], cuts: int = 0) -> list[Job]:
    """Submit and cancel at the given times; `cuts` inserts that many extra `advance` calls in every gap."""
    now, jobs, rng = 0, [], random.Random(7)
    for gap, prompt, lengths, cancels in arrivals:
        for cut in range(1, cuts + 1):
            machine.advance(now + gap * cut // (cuts + 1))
        now += gap
        machine.advance(now)
        jobs.append(machine.submit(now, prompt, lengths))
        if cancels:
            machine.cancel(rng.choice(jobs), now)
    machine.advance(END_NS)
    return jobs


@pytest.mark.parametrize("traits", [GPU, STATIC, PIPELINE], ids=["gpu", "static", "pipeline"])
@settings(max_examples=60, deadline=None)
@given(arrivals=ARRIVALS)
def test_shares_add_up_to_busy_time_and_everything_is_given_back(
    traits: Traits, arrivals: list[tuple[int, int, list[int], bool]]
) -> None:
    machine = engine(traits)
    jobs = play(machine, arrivals)
    assert sum(job.prompt_ns + job.completion_ns for job in jobs) == machine.busy_ns
    busy_ns, idle_ns = machine.busy_and_idle_ns(END_NS)
    assert busy_ns + idle_ns == END_NS
    assert (machine.running, machine.waiting, machine.demand(), machine.kv_used_ratio) == (0, 0, 0, 0.0)
    assert all(job.ended_ns is not None and not job.lanes for job in jobs)


@pytest.mark.parametrize("traits", [GPU, STATIC, PIPELINE], ids=["gpu", "static", "pipeline"])
@settings(max_examples=60, deadline=None)
@given(arrivals=ARRIVALS, cuts=st.integers(1, 5))
def test_where_time_is_cut_changes_nothing(
    traits: Traits, arrivals: list[tuple[int, int, list[int], bool]], cuts: int
) -> None:
    whole, cut = engine(traits), engine(traits)

    def fates(jobs: list[Job]) -> list[tuple[object, ...]]:
        return [(job.first_token_ns, job.ended_ns, job.prompt_ns, job.completion_ns) for job in jobs]

    assert fates(play(whole, arrivals)) == fates(play(cut, arrivals, cuts))
    assert (whole.busy_ns, whole.steps) == (cut.busy_ns, cut.steps)


def test_dropping_one_steps_share_is_noticed() -> None:
    """The mutation the conservation test exists for."""

    class Forgetful(Engine):
        def _account(self, step: int, end_ns: int) -> int:
            before = self._batch.share_sum_ns
            share_ns = super()._account(step, end_ns)
            if self.steps == 5:
                self._batch.share_sum_ns = before
            return share_ns

    machine = Forgetful(physics(), GPU, 1, 0.08, 0.05)
    job = machine.submit(0, 100, [50])
    now_ns = 0
    while machine.steps < 8:
        now_ns = machine.next_token_ns(now_ns) or END_NS
        machine.advance(now_ns)
        machine.share_ns(job)
    machine.advance(END_NS)
    assert job.prompt_ns + job.completion_ns != machine.busy_ns


def test_each_lane_makes_exactly_its_tokens() -> None:
    machine = engine()
    job = machine.submit(0, 100, [1, 7, 30])
    while job.ended_ns is None:
        next_ns = machine.next_event_ns()
        assert next_ns is not None
        machine.advance(next_ns)
    assert [machine.produced(lane) for lane in job.lanes_made] == [1, 7, 30]


def test_slots_and_kv_bound_what_runs_and_the_rest_waits_in_order() -> None:
    machine = engine(max_sequences=2)
    jobs = [machine.submit(0, 500, [40]) for _ in range(6)]
    seen = 0
    while machine.next_event_ns() is not None:
        machine.advance(machine.next_event_ns())  # type: ignore[arg-type]
        seen = max(seen, machine.running)
        assert machine.kv_used_ratio <= 1.0
    assert seen == 2
    firsts = [job.first_token_ns for job in jobs]
    assert firsts == sorted(firsts)  # type: ignore[type-var]

    tight = engine(kv_room_tokens=1200)
    first, second = tight.submit(0, 1000, [100]), tight.submit(0, 1000, [100])
    tight.advance(END_NS)
    assert second.first_token_ns > first.ended_ns  # type: ignore[operator]


def test_a_cancelled_job_frees_its_place_for_the_next_at_once() -> None:
    machine = engine(max_sequences=1)
    first, second = machine.submit(0, 500, [1000]), machine.submit(0, 500, [10])
    machine.advance(2_000_000_000)
    assert second.first_token_ns is None
    machine.cancel(first, 2_000_000_000)
    assert machine.kv_used_ratio > 0
    assert machine.running == 1
    machine.advance(END_NS)
    assert second.ended_ns is not None
    assert first.completion_ns > 0


def test_a_larger_batch_is_never_faster_for_one_user_and_noise_averages_out() -> None:
    def tpot(lanes: int) -> float:
        machine = Engine(physics(), GPU, 1, 0.0, 0.0)
        job = machine.submit(0, 100, [100] * lanes)
        machine.advance(END_NS)
        assert job.ended_ns is not None
        assert job.first_token_ns is not None
        return (job.ended_ns - job.first_token_ns) / 99e9

    assert tpot(1) <= tpot(4) <= tpot(16)
    noisy, quiet = engine(), Engine(physics(), GPU, 1, 0.0, 0.0)
    for machine in (noisy, quiet):
        machine.submit(0, 100, [3000])
        machine.advance(END_NS)
    assert noisy.busy_ns == pytest.approx(quiet.busy_ns, rel=0.01)
    assert noisy.busy_ns != quiet.busy_ns


def test_what_an_empty_engine_could_not_hold_is_refused() -> None:
    machine = engine(max_sequences=2, kv_room_tokens=1000)
    assert machine.fits(900, [50])
    for prompt, lengths in ((10, [1, 1, 1]), (900, [100])):
        assert not machine.fits(prompt, lengths)
        with pytest.raises(ValueError, match="exceed the whole engine"):
            machine.submit(0, prompt, lengths)
    assert machine.demand() == 0
