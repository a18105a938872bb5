"""The monitor in virtual time: when it asks, what it believes, and for how long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from app.fleet.monitor import Monitor, Target
from app.routing.state import RoutingState
from backends.clock import VirtualClock
from backends.errors import BackendError, Unavailable
from backends.upstream.page import MAX_BYTES, Page
from backends.upstream.transport import FakeReply, FakeTransport
from tests.fakes import ScriptedBackend

S = 1_000_000_000
PAGE = "vllm:num_requests_running {}\nvllm:num_requests_waiting 1\nvllm:kv_cache_usage_perc 0.5\n"


class Service(ScriptedBackend):
    """Answers pings, or does not; counts what it is asked, and when."""

    def __init__(self, name: str, clock: VirtualClock) -> None:
        super().__init__(name)
        self.clock = clock
        self.running_now = 3
        self.down = False
        self.garbled = False
        self.pinged_ns: list[int] = []
        self.pages_closed = 0

    async def ping(self) -> None:
        self.pinged_ns.append(self.clock.now_ns())
        if self.down:
            raise Unavailable(f"{self.info.name} is down")


class ServicePage:
    def __init__(self, service: Service) -> None:
        self.service = service

    async def read(self) -> str:
        if self.service.down:
            raise Unavailable("down")
        return "no metrics" if self.service.garbled else PAGE.format(self.service.running_now)

    async def aclose(self) -> None:
        self.service.pages_closed += 1


class Rig:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.state = RoutingState()
        self.failures: list[tuple[str, str]] = []
        self.service = Service("a", self.clock)
        self.other = Service("b", self.clock)
        self.monitor = Monitor(
            self.state, self.clock, 1, self.page, lambda backend, signal: self.failures.append((backend, signal))
        )

    def page(self, target: Target) -> ServicePage:
        assert isinstance(target.backend, Service)
        return ServicePage(target.backend)

    def target(self, service: Service, interval_s: float = 5.0, url: str | None = "http://x/metrics") -> Target:
        return Target(service, url, interval_s, 2.0)


@asynccontextmanager
async def rigged() -> AsyncIterator[Rig]:
    rig = Rig()
    try:
        yield rig
    finally:
        await rig.monitor.aclose()


async def test_it_asks_at_once_and_then_every_interval_give_or_take_a_fifth() -> None:
    async with rigged() as rig:
        rig.monitor.watch([rig.target(rig.service), rig.target(rig.other)])
        await rig.clock.advance_to(500 * S)
        times = rig.service.pinged_ns
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert times[0] == 0
        assert all(4 * S <= gap <= 6 * S for gap in gaps)
        assert len(set(gaps)) == len(gaps)
        assert 95 <= len(times) <= 105
        assert times[1:] != rig.other.pinged_ns[1:]
    again = Rig()
    again.monitor.watch([again.target(again.service)])
    await again.clock.advance_to(500 * S)
    assert again.service.pinged_ns == times, "the jitter is seeded"
    await again.monitor.aclose()


async def test_what_was_told_is_kept_with_its_time_and_grows_stale() -> None:
    async with rigged() as rig:
        rig.monitor.watch([rig.target(rig.service)])
        await rig.clock.advance_to(0)
        told = rig.state.scraped["a"]
        assert told == (3, 1, 0.5, 0, 15 * S)
        rig.service.running_now = 9
        await rig.clock.advance_to(6 * S)
        assert rig.state.scraped["a"].running == 9
        last_ns = rig.state.scraped["a"].at_ns
        rig.service.down = True
        await rig.clock.advance_to(last_ns + 16 * S)
        plain = rig.monitor.plain("a")
        assert plain is not None
        assert (plain["scrape"]["stale"], plain["scrape"]["error"], plain["ping"]["ok"]) == (True, "down", False)
        assert plain["reported"] == {"running": 9, "waiting": 1, "kv_used_ratio": 0.5}
        assert rig.state.scraped["a"].fresh_until_ns < rig.clock.now_ns()
        assert set(rig.failures) == {("a", "ping"), ("a", "scrape")}
        rig.service.down = False
        await rig.clock.advance_to(rig.clock.now_ns() + 6 * S)
        plain = rig.monitor.plain("a")
        assert plain is not None
        assert (plain["scrape"]["stale"], plain["scrape"]["ok"], plain["ping"]["ok"]) == (False, True, True)


async def test_a_page_that_makes_no_sense_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    async with rigged() as rig:
        rig.service.garbled = True
        rig.monitor.watch([rig.target(rig.service)])
        with caplog.at_level(logging.WARNING, "turnout.monitor"):
            await rig.clock.advance_to(60 * S)
        assert "a" not in rig.state.scraped
        assert len(caplog.records) == 1, "said once"
        plain = rig.monitor.plain("a")
        assert plain is not None
        assert (plain["ping"]["ok"], plain["scrape"]["ok"], plain["reported"]) == (True, False, None)


async def test_a_reload_stops_starts_and_leaves_alone() -> None:
    async with rigged() as rig:
        rig.monitor.watch([rig.target(rig.service), rig.target(rig.other, url=None)])
        await rig.clock.advance_to(S)
        assert "b" not in rig.state.scraped
        rig.monitor.watch([rig.target(rig.service)])
        await rig.clock.advance_to(2 * S)
        assert len(rig.service.pinged_ns) == 1, "it goes on as it was"
        asked = len(rig.other.pinged_ns)
        rig.monitor.watch([rig.target(rig.service, interval_s=1.0)])
        await rig.clock.advance_to(20 * S)
        assert len(rig.other.pinged_ns) == asked
        assert len(rig.service.pinged_ns) > 15
        rig.monitor.watch([])
        await rig.clock.advance_to(21 * S)
        assert rig.state.scraped == {}
        assert rig.monitor.plain("a") is None
        assert rig.service.pages_closed == 2


async def test_a_ping_that_hangs_is_given_up() -> None:
    async with rigged() as rig:

        class Hanging(Service):
            async def ping(self) -> None:
                await asyncio.Event().wait()

        hanging = Hanging("a", rig.clock)
        rig.monitor.watch([Target(hanging, None, 5.0, 0.02)])
        async with asyncio.timeout(5):
            while not rig.failures:
                await asyncio.sleep(0.005)
        plain = rig.monitor.plain("a")
        assert plain is not None
        assert plain["ping"]["error"] == "a did not answer a ping within 0.02 s"


async def test_a_page_is_bounded_in_size_and_time_and_needs_a_200() -> None:
    def page(reply: FakeReply) -> tuple[Page, FakeTransport]:
        transport = FakeTransport(lambda request: reply)
        return Page("a", "http://x/metrics", 0.05, transport), transport

    good, transport = page(FakeReply([b"on", b"e"]))
    assert await good.read() == "one"
    assert (transport.requests[0].method, "authorization" in transport.requests[0].headers) == ("GET", False)
    for reply, what in (
        (FakeReply([b"x"], status=404), "answered 404"),
        (FakeReply([b"x" * MAX_BYTES, b"x"]), "more than 4,194,304 bytes"),
        (FakeReply([b"x"], hangs=True), "within 0.05 s"),
        (FakeReply(error=Unavailable("gone")), "gone"),
    ):
        bad, transport = page(reply)
        with pytest.raises(BackendError, match=what):
            await bad.read()
        assert transport.open == 0
