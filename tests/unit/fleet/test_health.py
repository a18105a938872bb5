"""Gates: who may be asked just now, as the policy sees it."""

from __future__ import annotations

import pytest

from app.fleet.fleet import Fleet
from app.fleet.health import SPENT, Health
from app.fleet.receipts import Receipts
from app.routing.state import Gate
from app.routing.types import Candidate
from app.routing.warmth import warmed_up
from backends import errors
from tests.builders import make_candidate, make_policy, make_request, make_snapshot, make_view
from tests.fakes import ScriptedBackend

S = 1_000_000_000
DOWN = errors.Unavailable("down")


def made(*names: str) -> tuple[Health, dict[str, Gate]]:
    gates: dict[str, Gate] = {}
    health = Health(gates, 0)
    health.know({"m": tuple(make_view(name) for name in names)})
    return health, gates


def candidate(name: str) -> Candidate:
    return make_candidate(make_view(name))


def fail(health: Health, name: str, times: int, now_ns: int, error: errors.BackendError | None = DOWN) -> None:
    for _ in range(times):
        health.failed(name, health.begin(name, now_ns), error, now_ns)


def test_failures_shut_a_backend_and_answers_open_it_step_by_step() -> None:
    health, gates = made("a", "b")
    fail(health, "a", 5, 0)
    assert gates["a"].reason == "breaker_open"
    now_ns = gates["a"].until_ns
    for _ in range(3):
        ticket = health.begin("a", now_ns)
        assert gates["a"].reason == "breaker_probing"
        health.answered(candidate("a"), ticket, 0.01, now_ns)
        assert "a" not in gates
    assert health.look("a", now_ns).breaker == "closed"


def test_a_probes_first_token_is_its_answer() -> None:
    health, gates = made("a", "b")
    fail(health, "a", 5, 0)
    now_ns = gates["a"].until_ns
    ticket = health.began(candidate("a"), health.begin("a", now_ns), 0.01, now_ns)
    assert ticket == SPENT
    assert "a" not in gates, "its last token may be minutes away"
    health.answered(candidate("a"), ticket, 0.01, now_ns)
    assert health.look("a", now_ns).breaker == "half_open", "it counts once"


@pytest.mark.parametrize(
    "error", [errors.ContextExceeded("long"), errors.Unsupported("tools"), errors.Saturated("full")]
)
def test_faults_of_clients_and_full_queues_never_open_a_breaker(error: errors.BackendError) -> None:
    health, _ = made("a")
    fail(health, "a", 100, 0, error)
    assert health.look("a", 0).breaker == "closed"


def test_a_bug_of_a_backends_counts_and_a_client_that_left_does_not() -> None:
    health, gates = made("a", "b")
    for _ in range(100):
        health.abandoned("a", health.begin("a", 0), 0)
    assert gates == {}
    fail(health, "a", 5, 0, None)
    assert gates["a"].reason == "breaker_open"


def test_first_tokens_that_come_far_too_late_are_failures() -> None:
    health, gates = made("a", "b")
    chosen = candidate("a")
    late_s = 5.1 * max(chosen.prediction.ttft_q90_s, 0.1)
    for _ in range(4):
        health.answered(chosen, health.begin("a", 0), late_s, 0)
    assert gates == {}
    health.answered(chosen, health.begin("a", 0), late_s, 0)
    assert gates["a"].reason == "breaker_open"


def test_a_service_that_asks_to_be_left_alone_is_for_ten_seconds_at_most() -> None:
    health, gates = made("a", "b")
    fail(health, "a", 1, 0, errors.Saturated("busy", 3.0, told=True))
    assert gates["a"] == Gate("retry_after", 3 * S)
    fail(health, "a", 1, 0, errors.Saturated("busy", 3600.0, told=True))
    assert gates["a"].until_ns == 10 * S
    fail(health, "b", 1, 0, errors.Saturated("our own count", 3600.0))
    assert gates["b"].until_ns < S // 10


@pytest.mark.parametrize("error", [DOWN, errors.Unreachable("no"), errors.Saturated("not yet", 60.0)])
def test_one_that_refuses_while_it_warms_up_is_left_alone_and_nothing_is_held_against_it(
    error: errors.BackendError,
) -> None:
    health, gates = made("a", "b")
    for now_ns in range(0, 80 * S, 2 * S):
        health.failed("a", health.begin("a", now_ns), error, now_ns, 90.0 - now_ns / S)
    assert gates["a"] == Gate("cold", 88 * S)
    health.failed("a", health.begin("a", 88 * S), error, 88 * S, 2.0)
    assert gates["a"] == Gate("cold", 90 * S), "no longer than it warms up"
    assert health.look("a", 88 * S).breaker == "closed"
    fail(health, "a", 5, 91 * S)
    assert health.look("a", 91 * S).breaker == "open", "warm, it has no excuse"


def test_answers_that_had_to_wait_for_a_warm_up_make_no_outlier() -> None:
    health, _ = made("a", "b", "c")
    cold = candidate("a")
    cold = cold._replace(prediction=warmed_up(cold.prediction, 90 * S))
    for turn in range(40):
        for name in ("a", "b", "c"):
            chosen = cold if name == "a" else candidate(name)
            ttft_s = 10 * cold.prediction.ttft_s if name == "a" else chosen.prediction.ttft_s
            health.answered(chosen, health.begin(name, turn), ttft_s, turn)
    assert not health.ejected("a", 40)


def test_the_longest_reason_stands() -> None:
    health, gates = made("a", "b")
    fail(health, "a", 1, 0, errors.Saturated("busy", 10.0, told=True))
    fail(health, "a", 5, 0)
    assert gates["a"].reason == "retry_after"
    fail(health, "a", 1, 10 * S, errors.Saturated("busy", 0.1, told=True))
    assert gates["a"].reason == "retry_after"
    assert health.look("a", 10 * S).gate == "retry_after"
    assert health.look("a", 20 * S).gate is None


def answer(health: Health, name: str, ratio: float, times: int, now_ns: int = 0) -> None:
    chosen = candidate(name)
    for _ in range(times):
        health.answered(chosen, health.begin(name, now_ns), ratio * chosen.prediction.ttft_s, now_ns)


def test_who_alone_is_far_slower_than_predicted_is_ejected_for_a_while_longer_each_time() -> None:
    health, gates = made("a", "b", "c")
    for name in "bc":
        answer(health, name, 1.1, 32)
    now_ns = 0
    for seconds in (10, 20, 40, 60, 60):
        answer(health, "a", 3.5, 24, now_ns)
        assert gates["a"] == Gate("ejected", now_ns + seconds * S)
        now_ns += seconds * S
    assert health.look("a", 0).ejections == 5


def test_everybody_slow_together_is_load_and_nobody_is_ejected() -> None:
    health, gates = made("a", "b", "c")
    for name in "abc":
        answer(health, name, 3.5, 64)
    assert gates == {}


@pytest.mark.parametrize(("names", "most"), [("ab", 0), ("abc", 1), ("abcde", 1), ("abcdef", 2)])
def test_at_most_a_third_of_a_models_backends_is_ejected(names: str, most: int) -> None:
    health, gates = made(*names)
    for name in names[-1:]:
        answer(health, name, 1.0, 32)
    for name in names[:-1]:
        answer(health, name, 1.0, 32)
    for name in names[:-1]:
        answer(health, name, 30.0, 40)
    assert sum(gate.reason == "ejected" for gate in gates.values()) <= most


def test_nothing_is_held_against_a_backend_that_took_anothers_place() -> None:
    health, gates = made("a", "b")
    early = health.begin("a", 0)
    fail(health, "a", 5, 0)
    health.forget("a")
    assert gates == {}
    health.failed("a", early, DOWN, 0)
    fail(health, "a", 4, 0)
    assert health.look("a", 0).breaker == "closed"


def fleet(*names: str) -> Fleet:
    backends = {name: ScriptedBackend(name) for name in names}
    snapshot = make_snapshot(*(make_view(name) for name in names))
    return Fleet(backends, snapshot, {"cheapest-slo": make_policy()}, Receipts(10, "d-"), 0)


def test_when_guesses_shut_everybody_the_one_shut_longest_ago_is_asked() -> None:
    owner = fleet("a", "b")
    fail(owner.health, "b", 5, 0)
    fail(owner.health, "a", 5, S)
    decision, reservation = owner.decide(make_request(), 2 * S)
    assert decision.chosen is not None
    assert (decision.chosen.view.name, decision.reason) == ("b", "panic")
    assert owner.receipts.get(decision.id) == decision
    assert reservation is not None
    assert owner.health.panics == 1
    assert owner.state.gates["b"].reason == "breaker_open"
    again, _ = owner.decide(make_request(exclude=frozenset({"b"})), 2 * S)
    assert again.chosen is None, "a retry is not worth that"


def test_who_asked_to_be_left_alone_is_even_if_nobody_else_is_there() -> None:
    owner = fleet("a", "b")
    fail(owner.health, "a", 5, 0)
    fail(owner.health, "b", 1, 0, errors.Saturated("busy", 3.0, told=True))
    decision, _ = owner.decide(make_request(), S)
    assert decision.chosen is None
    assert decision.retry_after_s == pytest.approx(2.0)
