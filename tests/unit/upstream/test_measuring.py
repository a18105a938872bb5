"""What samples say of a service, and that asking a service of known speed finds that speed."""

from __future__ import annotations

import asyncio

import pytest

from backends.clock import VirtualClock
from backends.errors import Unavailable
from backends.registry import build
from backends.upstream.measuring import Sample, fit, measure, told
from tests.sheets import sheets, spec_of


def test_a_straight_line_through_short_and_long_prompts() -> None:
    short = [Sample(20, ttft_s, 0.010) for ttft_s in (0.05, 0.06, 9.0)]
    long = [Sample(220, ttft_s, 0.010) for ttft_s in (0.46, 0.45, 0.9)]
    profile = fit(short, long, [Sample(20, 0.1, 0.016)] * 3, 4)
    assert profile.prefill_s_per_token == pytest.approx(0.002)
    assert profile.overhead_s == pytest.approx(0.02)
    assert [profile.tpot_s(1), profile.tpot_s(4)] == pytest.approx([0.010, 0.016])
    assert "100 tokens/s alone, 62.5 each with all 4" in told(profile)


@pytest.mark.parametrize(
    ("together_s", "full_s"), [(0.008, 0.010), (0.030, 0.030)], ids=["company helps: noise", "company costs more"]
)
def test_a_full_house_is_never_better_than_one_alone(together_s: float, full_s: float) -> None:
    short, long = [Sample(20, 0.2, 0.010)], [Sample(220, 0.1, 0.010)]
    profile = fit(short, long, [Sample(20, 0.1, together_s)], 2)
    assert profile.tpot_s(2) == pytest.approx(full_s)
    assert profile.prefill_s_per_token == 0
    assert profile.decode_base_s >= 0


@pytest.mark.parametrize("long", [Sample(20, 0.2, 0.01), Sample(220, 0.2, 0.0)])
def test_samples_that_show_nothing_are_no_profile(long: Sample) -> None:
    with pytest.raises(Unavailable):
        fit([Sample(20, 0.1, long.tpot_s)], [long], [], 1)


async def test_a_backend_of_known_speed_is_measured_as_that() -> None:
    spec, clock = spec_of("gpu"), VirtualClock()
    backend = build(spec, sheets(), clock)
    await backend.start()
    model = spec.deployments[0].model
    measuring = asyncio.create_task(measure(backend, model, 4, clock))
    while not measuring.done():
        await clock.advance_to(clock.now_ns() + 10_000_000)
    known, found = backend.info.deployments[model].profile, await measuring
    await backend.aclose()
    assert found.tpot_s(1) == pytest.approx(known.tpot_s(1), rel=0.1)
    assert found.tpot_s(4) == pytest.approx(known.tpot_s(4), rel=0.1)
    assert found.max_sequences == 4
