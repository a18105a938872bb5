"""The ring of decisions forgets the oldest and never confuses two ids."""

from __future__ import annotations

from app.fleet.receipts import Receipts
from app.routing.types import Decision
from tests.builders import make_request


def decision(receipts: Receipts) -> Decision:
    return Decision(receipts.next_id(), make_request(), "p", "c", receipts.next_number(), None, "x")


def test_the_newest_are_kept_and_found_by_id() -> None:
    receipts, made = Receipts(4, "d-cafe-"), []
    assert receipts.latest(9) == []
    for _ in range(10):
        made.append(decision(receipts))
        receipts.keep(made[-1])
    assert [each.id for each in made[:2]] == ["d-cafe-1", "d-cafe-2"]
    assert receipts.latest(2) == [made[9], made[8]]
    assert receipts.latest(99) == made[:5:-1]
    assert all(receipts.get(each.id) == each for each in made[6:])
    assert all(receipts.get(each.id) is None for each in made[:6])


def test_ids_of_others_are_not_found() -> None:
    receipts = Receipts(4, "d-cafe-")
    receipts.keep(decision(receipts))
    for unknown in ("", "d-cafe-", "d-cafe-zz", "d-babe-1", "1", "d-cafe-5", "d-cafe--1"):
        assert receipts.get(unknown) is None
