"""Virtual time passes only when told to, and wakes sleepers in order."""

from __future__ import annotations

import asyncio

from backends.clock import ScaledClock, SystemClock, VirtualClock


async def test_sleepers_wake_at_their_own_deadlines_in_order() -> None:
    clock, woken = VirtualClock(), []

    async def sleeper(name: str, when_ns: int) -> None:
        await clock.sleep_until(when_ns)
        woken.append((name, clock.now_ns()))

    tasks = [asyncio.create_task(sleeper(*pair)) for pair in (("b", 20), ("a", 10), ("c", 20), ("now", 0))]
    await asyncio.sleep(0)
    assert clock.next_deadline_ns() == 10
    await clock.advance_to(15)
    assert woken == [("now", 0), ("a", 10)]
    await clock.advance_to(100)
    await asyncio.gather(*tasks)
    assert woken == [("now", 0), ("a", 10), ("b", 20), ("c", 20)]
    assert (clock.now_ns(), clock.next_deadline_ns()) == (100, None)


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = VirtualClock()
    task = asyncio.create_task(clock.sleep_until(10))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert clock.next_deadline_ns() is None


async def test_wall_time_moves_with_virtual_time() -> None:
    clock = VirtualClock(start_ns=5, wall_start_ns=1000)
    assert clock.wall_ns() == 1000
    await clock.advance_to(7)
    assert clock.wall_ns() == 1002


async def test_the_system_clock_only_goes_forward() -> None:
    clock = SystemClock()
    before = clock.now_ns()
    await clock.sleep_until(before + 2_000_000)
    assert clock.now_ns() >= before + 2_000_000
    assert clock.wall_ns() > 1_700_000_000_000_000_000


async def test_a_scaled_clock_runs_faster_by_its_factor() -> None:
    inner = VirtualClock(start_ns=500)
    clock = ScaledClock(inner, 10)
    slept = asyncio.create_task(clock.sleep_until(clock.now_ns() + 1_000))
    await inner.advance_to(599)
    assert (clock.now_ns(), slept.done()) == (500 + 990, False)
    await inner.advance_to(600)
    assert (clock.now_ns(), slept.done()) == (500 + 1_000, True)
    assert clock.wall_ns() - inner.wall_ns() == 900
