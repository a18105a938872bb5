"""The gateway's queue: who waits, in what order, and who is turned away."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.dispatch.admission import HALF_LIFE_NS, Admission, Place, cost_of

S = 1_000_000_000


def place(
    tenant: str = "t", deadline_s: float = 100.0, priority: int = 0, model: str = "m", cost: float = 100.0
) -> Place:
    return Place(model, priority, tenant, int(deadline_s * S), cost, 0)


def queue(*places: tuple[str, Place], most: int = 100, per_tenant: int = 100) -> Admission[str]:
    made: Admission[str] = Admission(most, per_tenant)
    for name, each in places:
        assert made.offer(name, each, 0) is None
    return made


def test_higher_priority_first_then_the_earliest_deadline() -> None:
    made = queue(("late", place(deadline_s=9)), ("soon", place(deadline_s=3)), ("high", place(priority=5)))
    assert made.turns("m", 4, 0) == ["high"], "the others' time comes when nobody of higher priority waits"
    made.leave("high", 0, placed=True)
    assert made.turns("m", 4, 0) == ["soon", "late"]
    assert made.depth() == {0: 2}


def test_a_model_that_is_full_does_not_hold_up_another() -> None:
    made = queue(("a", place(model="m")), ("b", place(model="n")))
    assert made.turns("n", 4, 0) == ["b"]
    assert made.turns("nobody", 4, 0) == []


def test_the_tenant_served_least_comes_first_and_what_was_long_ago_counts_less() -> None:
    made = queue(("greedy", place("greedy", 1)), ("modest", place("modest", 50)))
    made.served("greedy", cost_of(1000, 500), 0)
    made.served("modest", cost_of(100, 50), 0)
    assert made.turns("m", 2, 0) == ["modest", "greedy"]
    later_ns = 10 * HALF_LIFE_NS
    made.served("modest", 100.0, later_ns)
    assert made.turns("m", 2, later_ns) == ["greedy", "modest"]


def test_those_called_together_are_shared_out_among_tenants() -> None:
    made = queue(*[(f"a{n}", place("a", n)) for n in range(4)], *[(f"b{n}", place("b", 50 + n)) for n in range(4)])
    assert made.turns("m", 4, 0) == ["a0", "b0", "a1", "b1"]


def test_it_is_bounded_in_all_and_per_tenant() -> None:
    made = queue(("1", place("a")), ("2", place("a")), most=3, per_tenant=2)
    assert made.offer("3", place("a"), 0) == "queue_full"
    assert made.offer("4", place("b"), 0) is None
    assert made.offer("5", place("c"), 0) == "queue_full"
    made.leave("1", 0, placed=False)
    made.leave("1", 0, placed=False)
    assert made.offer("3", place("a"), 0) is None


def test_who_could_not_be_served_in_time_is_told_at_once() -> None:
    made: Admission[int] = Admission(100, 100)
    for number in range(30):
        assert made.offer(number, place(), 0) is None
    for number in range(20):
        made.leave(number, number * S, placed=True)
    assert 0.9 < made.wait_s(0) / 10 < 1.1
    assert made.offer(98, place(deadline_s=25), 20 * S) == "queue_too_long"
    assert made.offer(99, place(deadline_s=35), 20 * S) is None
    assert made.offer(100, place(deadline_s=25, priority=1), 20 * S) is None, "higher priority does not wait for them"


def test_years_of_uptime_do_not_overflow_accounts() -> None:
    made = queue(("a", place("a", 1e12)), ("b", place("b", 1e12)))
    for minute in range(0, 3_000_000, 100_000):
        made.served("a", 5.0, minute * HALF_LIFE_NS)
    assert made.turns("m", 2, 3_000_000 * HALF_LIFE_NS)[0] in ("a", "b")


PLACES = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 50), st.integers(-2, 2), st.sampled_from("mn")), max_size=60
)


@given(PLACES, st.lists(st.integers(0, 59), max_size=60), st.integers(1, 6))
def test_whatever_comes_and_goes(places: list[tuple[str, int, int, str]], gone: list[int], most: int) -> None:
    made: Admission[int] = Admission(40, 20)
    inside: dict[int, Place] = {}
    for number, (tenant, deadline_s, priority, model) in enumerate(places):
        each = place(tenant, deadline_s, priority, model)
        if made.offer(number, each, 0) is None:
            inside[number] = each
        assert len(made) == len(inside) <= 40
    for number in gone:
        made.leave(number, 0, placed=False)
        inside.pop(number, None)
    for model in "mn":
        turns = made.turns(model, most, 0)
        waiting = [each for each in inside.values() if each.model == model]
        assert len(turns) == len(set(turns)) <= most
        assert bool(turns) is bool(waiting)
        for number in turns:
            assert inside[number].model == model
            assert inside[number].priority == max(each.priority for each in waiting)
        assert made.turns(model, most, 0) == turns, "looking changes nothing"
        if len({each.tenant for each in waiting}) == 1:
            deadlines = [inside[number].deadline_ns for number in turns]
            assert deadlines == sorted(deadlines)
    for number in list(inside):
        made.leave(number, 0, placed=True)
    assert (len(made), made.depth()) == (0, {})


def test_the_deadline_of_one_that_has_left_does_not_decide_whose_turn_it_is() -> None:
    made = queue(("gone", place("a", 1)), ("late", place("a", 30)), ("soon", place("b", 10)))
    made.leave("gone", 0, placed=False)
    assert made.turns("m", 1, 0) == made.turns("m", 1, 0) == ["soon"]
