"""The loop over a store that is told how to behave, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from app.config.models import RedisSharing, SharingOff
from app.fleet.fleet import Fleet
from app.fleet.receipts import Receipts
from app.fleet.sharing import learned
from app.fleet.sharing.loop import Sharer
from app.fleet.sharing.rows import Row, Share, Warm, decode, encode
from app.fleet.sharing.store import Found, Grant, StoreError
from app.routing.predictor import predict
from app.routing.state import NOBODY, Others, RoutingState
from backends.clock import VirtualClock
from backends.types import ColdStart
from tests.builders import make_candidate, make_outcome, make_policy, make_request, make_snapshot, make_view
from tests.fakes import ScriptedBackend

CONFIG = RedisSharing(type="redis", url="redis://nowhere")


class Shelf:
    """Holds what is put on it; `down` and it answers nobody."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, bytes]] = {}
        self.down = False
        self.asked = 0
        self.closed = False
        self.taken = False
        self.deaf: asyncio.Event | None = None

    async def exchange(self, kind: str, process: str, row: bytes, ttl_s: float) -> dict[str, Found]:
        self.asked += 1
        if self.down:
            raise StoreError("down by script")
        if self.deaf is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self.deaf.wait()
        shelf = self.rows.setdefault(kind, {})
        shelf[process] = row
        return {name: Found(value, 0.05) for name, value in shelf.items()}

    async def withdraw(self, process: str) -> None:
        for shelf in self.rows.values():
            shelf.pop(process, None)

    async def token(self, name: str, process: str, ttl_s: float) -> bool:
        return not self.taken

    async def lease(self, name: str, process: str, cap: int, want: int, used: int, lease_s: float) -> Grant:
        return Grant(0, False)

    async def aclose(self) -> None:
        self.closed = True


class Scene:
    """A fleet of two, a shelf and somebody who shares."""

    def __init__(self, cold_start: ColdStart | None = None) -> None:
        self.clock, self.shelf, self.failed = VirtualClock(), Shelf(), list[str]()
        backends = {name: ScriptedBackend(name) for name in ("a", "b")}
        snapshot = make_snapshot(*(make_view(name, cold_start=cold_start) for name in backends))
        self.fleet = Fleet(backends, snapshot, {"cheapest-slo": make_policy()}, Receipts(10, "d-"), 0)
        self.sharer = Sharer(lambda: self.fleet, self.clock, "me", lambda _: self.shelf, self.failed.append)

    async def rounds(self, seconds: float) -> None:
        await self.clock.advance_to(self.clock.now_ns() + int(seconds * 1e9))

    def other(self, name: str = "other", **loads: Share) -> None:
        self.shelf.rows.setdefault("load", {})[name] = encode(Row(loads, {}))


@contextlib.asynccontextmanager
async def sharing(cold_start: ColdStart | None = None) -> AsyncIterator[Scene]:
    scene = Scene(cold_start)
    scene.fleet.know_warmth(scene.clock.now_ns())
    scene.sharer.follow(CONFIG)
    try:
        yield scene
    finally:
        await scene.sharer.aclose()


async def test_others_are_added_up_apart_from_the_own_count() -> None:
    async with sharing() as scene:
        scene.other(a=Share(2, 100, 0, 0, 20_000))
        scene.other("third", a=Share(1, 50, 500), unknown_here=Share(9))
        scene.shelf.rows["load"]["newer"] = b'{"v":99}'
        _, reservation = scene.fleet.decide(make_request(), 0)
        assert reservation is not None
        await scene.rounds(1)
        load = scene.fleet.state.load("a")
        assert load.others == Others(3, 150, 500, 0.0, 0.02)
        assert "unknown_here" not in scene.fleet.state.loads
        own = decode(scene.shelf.rows["load"]["me"])
        assert own is not None
        assert own.loads[reservation.backend].sequences == 1
        status = scene.sharer.status()
        assert status is not None
        assert (status.up, status.processes) == (True, 3)
        del scene.shelf.rows["load"]["other"], scene.shelf.rows["load"]["third"]
        await scene.rounds(1)
        assert scene.fleet.state.load("a").others == NOBODY


async def test_it_ends_though_the_store_loses_its_cancellation() -> None:
    async with sharing() as scene:
        await scene.rounds(1)
        scene.shelf.deaf = asyncio.Event()
        await scene.rounds(1)
        async with asyncio.timeout(5):
            await scene.sharer.aclose()
        assert scene.shelf.closed


async def test_without_answers_the_last_word_stands_until_it_is_too_old() -> None:
    async with sharing() as scene:
        scene.other(a=Share(2))
        await scene.rounds(1)
        scene.shelf.down = True
        await scene.rounds(2)
        status = scene.sharer.status()
        assert status is not None
        assert status[0] is False
        assert scene.fleet.state.load("a").others.sequences == 2
        await scene.rounds(4)
        assert scene.fleet.state.load("a").others == NOBODY
        asked = scene.shelf.asked
        await scene.rounds(10)
        assert 9 <= scene.shelf.asked - asked <= 11, "asked once a second"
        assert set(scene.failed) == {"exchange"}
        scene.shelf.down = False
        await scene.rounds(2)
        assert scene.fleet.state.load("a").others.sequences == 2
        status = scene.sharer.status()
        assert status is not None
        assert status.processes == 2


async def test_a_breaker_that_opened_elsewhere_shuts_here_and_ours_is_told() -> None:
    async with sharing() as scene:
        wall_ms = scene.clock.wall_ns() // 1_000_000
        scene.shelf.rows["load"] = {
            name: encode(Row({}, {"a": wall_ms + ms})) for name, ms in (("x", 4000), ("y", 100))
        }
        await scene.rounds(1)
        gate = scene.fleet.state.gates["a"]
        assert gate.reason == "breaker_elsewhere"
        assert abs(gate.until_ns - 4_000_000_000) <= 2_000_000
        breaker = scene.fleet.health.breaker("b")
        for _ in range(5):
            ticket = scene.fleet.health.begin("b", scene.clock.now_ns())
            scene.fleet.health.failed("b", ticket, None, scene.clock.now_ns())
        await scene.rounds(0.5)
        own = decode(scene.shelf.rows["load"]["me"])
        assert own is not None
        assert own.open_until_ms == {"b": pytest.approx(wall_ms + breaker.until_ns / 1e6, abs=1)}
        del scene.shelf.rows["load"]["x"]
        await scene.rounds(0.5)
        assert "a" not in scene.fleet.state.gates, "who has nothing to say any more shuts nothing"


async def test_one_process_probes_at_a_time() -> None:
    async with sharing() as scene:
        await scene.rounds(0.1)
        for _ in range(5):
            ticket = scene.fleet.health.begin("b", scene.clock.now_ns())
            scene.fleet.health.failed("b", ticket, None, scene.clock.now_ns())
        scene.shelf.taken = True
        open_ns = scene.fleet.health.breaker("b").until_ns
        await scene.clock.advance_to(open_ns + 100_000_000)
        assert scene.fleet.state.gates["b"].reason == "breaker_elsewhere"
        assert scene.fleet.state.gates["b"].until_ns > scene.clock.now_ns(), "another one has the token"
        scene.shelf.taken = False
        await scene.rounds(0.3)
        assert "b" not in scene.fleet.state.gates
        scene.shelf.taken = scene.shelf.down = True
        await scene.rounds(0.3)
        assert "b" not in scene.fleet.state.gates, "nobody to ask: every process decides for itself"


async def test_what_others_learned_is_taken_in_and_what_was_learned_here_is_told() -> None:
    async with sharing() as scene:
        view = make_view("a")
        teacher = RoutingState()
        for _ in range(100):
            now_ns, request = scene.clock.now_ns(), make_request()
            chosen = make_candidate(view)._replace(prediction=predict(request, view, teacher, "reference", now_ns))
            teacher.observe(make_outcome(chosen=chosen, ttft_s=3 * chosen.prediction.prior_ttft_s), now_ns)
        row = learned.own(teacher, scene.fleet.snapshot, scene.clock.now_ns())
        scene.shelf.rows["learned"] = {"other": learned.encode(row), "newer": b"?"}
        before = predict(make_request(), view, scene.fleet.state, "reference", 0).ttft_s
        await scene.rounds(6)
        after = predict(make_request(), view, scene.fleet.state, "reference", scene.clock.now_ns()).ttft_s
        assert after > 1.5 * before
        assert learned.decode(scene.shelf.rows["learned"]["me"]) == {}, "nothing was observed here"


async def test_another_configuration_ends_the_old_loop_and_off_shares_nothing() -> None:
    scene = Scene()
    scene.sharer.follow(CONFIG)
    scene.other(a=Share(2))
    await scene.rounds(1)
    scene.sharer.follow(CONFIG)
    assert scene.shelf.asked > 5, "the same configuration goes on"
    scene.sharer.follow(SharingOff())
    assert scene.fleet.state.load("a").others == NOBODY
    assert scene.sharer.status() is None
    async with asyncio.timeout(5):
        while not scene.shelf.closed:
            await asyncio.sleep(0)
    assert "me" not in scene.shelf.rows["load"], "who leaves takes its row along"
    await scene.sharer.aclose()


async def test_what_others_have_warmed_is_warm_and_what_is_warm_here_is_told() -> None:
    async with sharing(ColdStart(90.0, 600.0)) as scene:
        wall_ms = scene.clock.wall_ns() // 1_000_000
        scene.shelf.rows["load"] = {"other": encode(Row({}, {}, {"a": Warm(wall_ms + 30_000, wall_ms)}))}
        scene.fleet.warm("b", scene.clock.now_ns())
        await scene.rounds(1)
        now_ns = scene.clock.now_ns()
        stands = scene.fleet.warmth("a", now_ns)
        assert stands is not None
        assert stands.warmth == "warming"
        assert stands.warm_in_s == pytest.approx(29.0, abs=0.01)
        own = decode(scene.shelf.rows["load"]["me"])
        assert own is not None
        assert own.warm["b"] == Warm(wall_ms + 90_000, wall_ms), "when it will be, by the wall's clock"
        await scene.rounds(40)
        assert scene.fleet.warmth("a", scene.clock.now_ns()) == ("warm", 0.0)
        scene.shelf.rows["load"]["other"] = encode(Row({}, {}))
        await scene.rounds(600)
        assert scene.fleet.warmth("a", scene.clock.now_ns()) == ("cold", 90.0), "what was told does not keep it warm"
        own = decode(scene.shelf.rows["load"]["me"])
        assert own is not None
        assert "a" not in own.warm, "what is cold is not told"


async def test_use_elsewhere_keeps_a_backend_warm_and_telling_it_back_does_not() -> None:
    async with sharing(ColdStart(1.0, 60.0)) as scene:
        scene.fleet.warm("a", scene.clock.now_ns())
        for _ in range(3):
            await scene.rounds(30)
            wall_ms = scene.clock.wall_ns() // 1_000_000
            scene.shelf.rows["load"] = {"other": encode(Row({}, {}, {"a": Warm(0, wall_ms)}))}
        await scene.rounds(50)
        assert scene.fleet.warmth("a", scene.clock.now_ns()) == ("warm", 0.0)
        scene.shelf.rows["load"]["other"] = scene.shelf.rows["load"]["me"]  # an echo
        await scene.rounds(30)
        assert scene.fleet.warmth("a", scene.clock.now_ns()) == ("cold", 1.0)
