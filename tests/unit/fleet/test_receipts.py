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


def test_another_size_keeps_what_fits_of_the_newest() -> None:
    receipts, made = Receipts(4, "d-"), []
    for _ in range(6):
        made.append(decision(receipts))
        receipts.keep(made[-1])
    receipts.resize(8)
    assert receipts.latest(9) == made[:1:-1]
    for _ in range(3):
        made.append(decision(receipts))
        receipts.keep(made[-1])
    assert receipts.latest(9) == made[:1:-1]
    receipts.resize(2)
    assert receipts.latest(9) == made[:6:-1]
    assert receipts.get(made[8].id) is made[8]
    assert receipts.get(made[5].id) is None


def test_counting_can_go_on_from_elsewhere() -> None:
    receipts = Receipts(4, "d-")
    receipts.resume(41)
    made = decision(receipts)
    receipts.keep(made)
    assert (made.id, receipts.next_number()) == ("d-29", 42)
    assert receipts.latest(9) == [made]
