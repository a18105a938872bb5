"""One request's way to an answer, as a conversation: events in, commands out."""

from __future__ import annotations

import pytest

from app.dispatch.admission import Admission
from app.dispatch.commands import Ask, Drop, Hold, Refuse, Serve, Wake
from app.dispatch.machine import Dispatch
from app.dispatch.terms import Guard, Hedge, Terms
from app.fleet.fleet import Fleet
from app.fleet.receipts import Receipts
from app.routing.types import CostForecast, Slo
from backends import errors
from tests.builders import make_policy, make_request, make_snapshot, make_view
from tests.fakes import ScriptedBackend
from tests.unit.dispatch.playbook import S, ScriptedDesk, dispatch, told

Q90_S = make_request() and ScriptedDesk("a").candidates[0].prediction.ttft_q90_s
GUARD_NS = int(max(5 * Q90_S, 2.0) * S)


def terms(**fields: object) -> Terms:
    return Terms(**({"queue": Admission(10, 10)} | fields))  # type: ignore[arg-type]


def queue_of(shared: Terms) -> Admission[Dispatch]:
    assert shared.queue is not None
    return shared.queue


def code(command: object) -> str | None:
    assert isinstance(command, Refuse)
    return command.error.error_code


def test_one_ask_one_answer() -> None:
    made = dispatch(ScriptedDesk("a", "b"))
    ask, wake = made.begin(0)
    assert told([ask]) == [("ask", "a", "first")]
    assert wake == Wake(GUARD_NS)
    assert list(made.began(1, 5)) == [Serve(1)]
    assert list(made.began(1, 6)) == list(made.wake(7)) == list(made.leave(8)) == []


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (errors.Saturated("full"), "saturated"),
        (errors.Unavailable("gone"), "connect"),
        (errors.Unreachable("gone"), "connect"),
        (errors.BackendTimeout("slow"), "timeout"),
    ],
)
def test_failures_another_backend_need_not_share_are_retried(error: errors.BackendError, why: str) -> None:
    desk = ScriptedDesk("a", "b")
    made = dispatch(desk)
    made.begin(0)
    again = made.failed(1, error, S)
    assert told(again)[0] == ("ask", "b", why)
    assert desk.asked[-1].exclude == {"a"}
    assert again[1] == Wake(S + GUARD_NS), "its silence is counted from its own start"
    assert list(made.began(2, 2 * S)) == [Serve(2)]


@pytest.mark.parametrize("error", [errors.Unsupported("no tools"), errors.StreamCut("cut")])
def test_others_are_final(error: errors.BackendError) -> None:
    made = dispatch(ScriptedDesk("a", "b"))
    made.begin(0)
    (refuse,) = made.failed(1, error, S)
    assert isinstance(refuse, Refuse)
    assert refuse.error.attempts == 1
    assert list(made.failed(1, error, S)) == []


def test_failures_are_bounded_but_full_and_unreachable_backends_are_none() -> None:
    made = dispatch(ScriptedDesk(*"abcde"), Terms(max_attempts=2))
    made.begin(0)
    for number, error in enumerate(
        (errors.Saturated("full"), errors.Unreachable("gone"), errors.Unavailable("500")), 1
    ):
        assert told(made.failed(number, error, 0))[0][0] == "ask"
    assert code(made.failed(4, errors.Unavailable("500"), 0)[0]) == "upstream_failed"


def test_when_everybody_has_been_tried_the_last_failure_is_told() -> None:
    made = dispatch(ScriptedDesk("a"))
    made.begin(0)
    (refuse,) = made.failed(1, errors.Saturated("full", 1.5), 0)
    assert code(refuse) == "overloaded"
    assert isinstance(refuse, Refuse)
    assert refuse.error.retry_after_s == 1.5


def test_a_retry_is_made_past_the_ttft_promise_but_not_past_the_end_to_end_one() -> None:
    for slo, asked in ((Slo(ttft_s=1.0), True), (Slo(e2e_s=1.0), False)):
        made = dispatch(ScriptedDesk("a", "b"), slo=slo)
        made.begin(0)
        again = made.failed(1, errors.Unavailable("late"), 3 * S)
        assert isinstance(again[0], Refuse) is not asked


def test_the_retry_budget_is_shared_by_all_requests() -> None:
    shared = Terms(retry_share=0.1, retry_floor=2.0)
    retried = 0
    for _ in range(200):
        made = dispatch(ScriptedDesk("a", "b"), shared)
        made.begin(0)
        if not isinstance(made.failed(1, errors.Unavailable("down"), 0)[0], Refuse):
            retried += 1
    assert retried == 22, "one in ten, and the floor"


def test_retries_that_find_nobody_cost_no_budget() -> None:
    shared = Terms(retry_share=0.0, retry_floor=1.0)
    for _ in range(5):
        made = dispatch(ScriptedDesk("a"), shared)
        made.begin(0)
        made.failed(1, errors.Unavailable("down"), 0)
    assert shared.retries.may(1.0, 0)


def test_a_prompt_longer_than_thought_goes_to_a_wider_context_once() -> None:
    desk = ScriptedDesk("a", "b", "c", "d", contexts={"a": 4096, "b": 4096, "c": 8192, "d": 16384})
    made = dispatch(desk, Terms(retry_floor=0.0))
    made.begin(0)
    assert told(made.failed(1, errors.ContextExceeded("long"), 0))[0] == ("ask", "c", "context")
    assert code(made.failed(2, errors.ContextExceeded("long"), 0)[0]) == "context_length_exceeded"

    made = dispatch(ScriptedDesk("a", "b"))
    made.begin(0)
    assert code(made.failed(1, errors.ContextExceeded("long"), 0)[0]) == "context_length_exceeded"


def test_a_silent_backend_is_left_for_another() -> None:
    made = dispatch(ScriptedDesk("a", "b"))
    made.begin(0)
    assert list(made.wake(GUARD_NS - 1)) == [Wake(GUARD_NS)], "called too soon: nothing but another call"
    drop, ask, wake = made.wake(GUARD_NS)
    assert drop == Drop(1, "slow")
    assert told([ask]) == [("ask", "b", "slow")]
    assert wake == Wake(2 * GUARD_NS)
    assert list(made.began(1, GUARD_NS + 1)) == [], "an event of a dropped attempt is too late"
    assert list(made.began(2, GUARD_NS + 2)) == [Serve(2)]


def test_a_backend_that_warms_up_as_declared_is_not_silent() -> None:
    made = dispatch(ScriptedDesk("a", "b", warm_up_s=900.0))
    assert made.begin(0)[1] == Wake(900 * S + GUARD_NS)
    drop, ask, _ = made.wake(900 * S + GUARD_NS)
    assert (drop, told([ask])) == (Drop(1, "slow"), [("ask", "b", "slow")]), "longer than declared is silence"

    alone = dispatch(ScriptedDesk("a", warm_up_s=900.0))
    alone.begin(0)
    assert list(alone.wake(900 * S + GUARD_NS)) == [Wake(1200 * S)]

    whole = dispatch(ScriptedDesk("a", "b", warm_up_s=900.0), stream=False)
    (at_ns,) = [each.at_ns for each in whole.begin(0) if isinstance(each, Wake)]
    chosen = ScriptedDesk("a").candidates[0].prediction
    assert at_ns == pytest.approx(900 * S + 5 * chosen.e2e_q90_s * S)


def test_nobody_is_hedged_while_the_first_warms_up_as_declared() -> None:
    made = dispatch(ScriptedDesk("a", "b", warm_up_s=60.0), Terms(guard=None, hedge=Hedge(1.0, 0.05, 1.0)))
    _, wake = made.begin(0)
    assert isinstance(wake, Wake)
    assert wake.at_ns == pytest.approx(60 * S + max(Q90_S, 0.05) * S)


def test_a_silent_backend_is_waited_for_if_there_is_nobody_else_but_not_for_ever() -> None:
    made = dispatch(ScriptedDesk("a"))
    made.begin(0)
    assert list(made.wake(GUARD_NS)) == [Wake(300 * S)]
    drop, refuse = made.wake(300 * S)
    assert drop == Drop(1, "slow")
    assert code(refuse) == "upstream_timeout"


def test_an_answer_that_is_not_streamed_may_take_as_long_as_predicted() -> None:
    desk = ScriptedDesk("a")
    e2e_s = desk.candidates[0].prediction.e2e_q90_s
    made = dispatch(desk, stream=False)
    wake = made.begin(0)[1]
    assert isinstance(wake, Wake)
    assert wake.at_ns == int(5 * e2e_s * S)
    assert list(made.wake(wake.at_ns)) == [], "from then on it is for the backend's own timeout to end it"


def hedged(share: float = 1.0) -> Terms:
    return Terms(hedge=Hedge(1.1, 0.05, share))


HEDGE_NS = int(max(1.1 * Q90_S, 0.05) * S)


def test_a_second_backend_is_asked_late_and_the_first_to_begin_wins() -> None:
    for winner, loser in ((1, 2), (2, 1)):
        made = dispatch(ScriptedDesk("a", "b", "c"), hedged())
        assert made.begin(0)[1] == Wake(HEDGE_NS)
        ask, wake = made.wake(HEDGE_NS)
        assert told([ask]) == [("ask", "b", "hedge")]
        assert wake == Wake(GUARD_NS)
        assert list(made.began(winner, HEDGE_NS + 1)) == [Drop(loser), Serve(winner)]


def test_when_one_of_a_race_fails_the_other_is_the_retry() -> None:
    made = dispatch(ScriptedDesk("a", "b", "c"), hedged())
    made.begin(0)
    made.wake(HEDGE_NS)
    assert all(isinstance(each, Wake) for each in made.failed(1, errors.Unavailable("down"), HEDGE_NS + 1))
    assert code(made.failed(2, errors.Unavailable("down"), HEDGE_NS + 2)[0]) == "upstream_failed"


def test_hedges_keep_within_their_share_and_are_not_made_once_the_promise_is_lost() -> None:
    shared, asked = hedged(0.05), 0
    for _ in range(400):
        made = dispatch(ScriptedDesk("a", "b"), shared)
        made.begin(0)
        asked += any(word[0] == "ask" for word in told(made.wake(HEDGE_NS)))
    assert asked == 20
    made = dispatch(ScriptedDesk("a", "b"), hedged(), slo=Slo(ttft_s=0.01))
    made.begin(0)
    assert not any(word[0] == "ask" for word in told(made.wake(HEDGE_NS)))


def test_held_requests_wait_for_their_turn_then_for_the_last_moment() -> None:
    shared = terms()
    desk = ScriptedDesk("a", plan=["hold", "hold"])
    made = dispatch(desk, shared, slo=Slo(ttft_s=1.0))
    (hold,) = made.begin(0)
    assert isinstance(hold, Hold)
    assert hold.at_ns == pytest.approx(S - Q90_S * S), (
        "who decides then must still be able to answer, nine times in ten"
    )
    assert queue_of(shared).turns("m", 4, 0) == [made]
    assert list(made.wake(10)) == [hold]
    assert told(made.wake(20))[0] == ("ask", "a", "first")
    assert len(queue_of(shared)) == 0

    desk = ScriptedDesk("a", plan=["hold", "shed"])
    made = dispatch(desk, shared, slo=Slo(ttft_s=1.0))
    (hold,) = made.begin(0)
    assert code(made.wake(hold.at_ns)[0]) == "request_shed"  # type: ignore[union-attr]
    assert [each.may_hold for each in desk.asked] == [True, False]
    assert len(queue_of(shared)) == 0


def test_negative_priority_and_a_full_queue_are_turned_away_with_a_time_to_come_back() -> None:
    shared = terms(queue=Admission(1, 1))
    dispatch(ScriptedDesk("a", plan=["hold"]), shared).begin(0)
    for priority, expected in ((-1, "request_shed"), (0, "queue_full")):
        (refuse,) = dispatch(ScriptedDesk("a", plan=["hold"]), shared, priority=priority).begin(0)
        assert code(refuse) == expected
        assert refuse.error.status == 429  # type: ignore[union-attr]
        assert refuse.error.retry_after_s  # type: ignore[union-attr]
    (refuse,) = dispatch(ScriptedDesk("a", plan=["shed"]), shared).begin(0)
    assert code(refuse) == "request_shed"


def test_a_promise_nobody_can_keep_any_more_is_decided_at_once() -> None:
    desk = ScriptedDesk("a", plan=["hold"])
    made = dispatch(desk, terms(), slo=Slo(ttft_s=0.001))
    assert told(made.begin(0))[0] == ("ask", "a", "first")
    assert [each.may_hold for each in desk.asked] == [True, False]


def test_a_client_that_leaves_drops_what_is_open_and_frees_its_place() -> None:
    made = dispatch(ScriptedDesk("a", "b"), hedged())
    made.begin(0)
    made.wake(HEDGE_NS)
    assert list(made.leave(HEDGE_NS)) == [Drop(1, "left"), Drop(2, "left")]
    shared = terms()
    made = dispatch(ScriptedDesk("a", plan=["hold"]), shared)
    made.begin(0)
    assert list(made.leave(5)) == []
    assert len(queue_of(shared)) == 0
    assert list(made.wake(9)) == []


def test_arrival_is_when_it_began_unless_it_is_known_better() -> None:
    for given, expected in ((None, 7), (3, 3)):
        desk = ScriptedDesk("a")
        Dispatch(make_request(arrived_ns=given), "chat", desk, Terms(guard=Guard()), True).begin(7)
        assert desk.asked[0].arrived_ns == expected


@pytest.mark.parametrize("widest", [8192, 16384])
def test_that_holds_for_backends_the_decision_did_not_look_at(widest: int) -> None:
    """A real desk: the cheapest is looked at alone."""
    sizes = {"a": 8192, "b": 8192, "c": widest}
    views = [
        make_view(name, context_tokens=size, cost=CostForecast(100.0 * 2**place, 800.0 * 2**place))
        for place, (name, size) in enumerate(sizes.items())
    ]
    backends = {name: ScriptedBackend(name) for name in sizes}
    desk = Fleet(backends, make_snapshot(*views), {"cheapest-slo": make_policy()}, Receipts(10, "d-"), 0)
    made = Dispatch(make_request(prompt_tokens=8000, slo=Slo(10.0, 0.05)), "chat", desk, Terms(retry_floor=0.0), True)
    ask = made.begin(0)[0]
    assert isinstance(ask, Ask)
    assert ask.decision.unseen == ("b", "c")
    after = made.failed(1, errors.ContextExceeded("long"), 0)
    if widest > 8192:
        assert told(after)[0] == ("ask", "c", "context")
    else:
        assert code(after[0]) == "context_length_exceeded"
