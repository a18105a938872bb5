"""Slots: how many at a time, who waits, who is refused, and that a slot comes back whatever happens."""

from __future__ import annotations

import asyncio

import pytest

from backends.errors import BackendTimeout, Saturated, Unreachable
from backends.upstream.slots import SlotTransport
from backends.upstream.transport import FakeReply, FakeTransport, Request


def asked(first_byte_s: float = 5.0, method: str = "POST") -> Request:
    return Request(method, "http://x/v1", {}, b"", first_byte_s)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_finds_no_slot_waits_for_one_and_the_next_is_refused() -> None:
    inner = FakeTransport(lambda request: FakeReply())
    slots = SlotTransport("here", inner, 2, 1)
    first, _ = await slots.send(asked()), await slots.send(asked())
    third = asyncio.create_task(slots.send(asked()))
    await settled()
    assert (slots.waiting, inner.open) == (1, 2)
    with pytest.raises(Saturated):
        await slots.send(asked())
    await (await slots.send(asked(method="GET"))).aclose()  # a ping takes none
    await first.aclose()
    await first.aclose()
    await (await third).aclose()
    assert slots.waiting == 0
    await (await slots.send(asked())).aclose()


async def test_who_leaves_while_waiting_takes_no_slot_along() -> None:
    slots = SlotTransport("here", FakeTransport(lambda request: FakeReply()), 1, 4)
    held = await slots.send(asked())
    waiting = asyncio.create_task(slots.send(asked()))
    await settled()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    with pytest.raises(BackendTimeout):
        await slots.send(asked(0.01))
    assert slots.waiting == 0
    await held.aclose()
    await (await slots.send(asked())).aclose()


async def test_a_request_that_fails_gives_its_slot_back() -> None:
    replies = iter([FakeReply(error=Unreachable("gone")), FakeReply()])
    slots = SlotTransport("here", FakeTransport(lambda request: next(replies)), 1, 0)
    with pytest.raises(Unreachable):
        await slots.send(asked())
    await (await slots.send(asked())).aclose()
