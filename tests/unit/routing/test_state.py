"""What the router counts and learns."""

from __future__ import annotations

import pytest

from app.routing.predictor import predict
from app.routing.slo import MOST_HARM_LOOKED_AT, harm_allowed
from app.routing.state import RoutingState
from app.routing.types import Reservation
from tests.builders import make_candidate, make_outcome, make_profile, make_request, make_view


def test_reservations_come_back_to_zero() -> None:
    state = RoutingState()
    first, second = Reservation("a", 2, 500, 0.05), Reservation("a", 1, 100, 0.02)
    state.reserve(first, 0)
    state.reserve(second, 0)
    load = state.load("a")
    assert (load.sequences, load.pending_prompt_tokens, load.tightest_tpot_slo_s) == (3, 600, 0.02)
    state.first_token(second, 0)
    state.release(second, 0)
    assert (load.sequences, load.pending_prompt_tokens, load.tightest_tpot_slo_s) == (2, 500, 0.05)
    state.first_token(first, 0)
    state.release(first, 0)
    assert (load.sequences, load.pending_prompt_tokens, load.tightest_tpot_slo_s) == (0, 0, None)


def test_a_biased_prior_is_corrected() -> None:
    state, request, view = RoutingState(), make_request(), make_view()
    before = predict(request, view, state, "reference")
    for _ in range(60):
        now = predict(request, view, state, "reference")
        chosen = make_candidate(view)._replace(prediction=now)
        seen = {"ttft_s": before.prior_ttft_s * 2, "tpot_s": before.prior_tpot_s / 2, "completion_tokens": 200}
        state.observe(make_outcome(chosen=chosen, **seen), 0)
    after = predict(request, view, state, "reference")
    assert after.ttft_s == pytest.approx(2 * before.ttft_s, rel=0.01)
    assert after.tpot_s == pytest.approx(before.tpot_s / 2, rel=0.01)


def test_reading_that_others_bring_later_moves_the_published_quantile_but_not_the_pace() -> None:
    state, request, view = RoutingState(), make_request(), make_view()
    before = predict(request, view, state, "reference")
    slower_s = 1.5 * before.decode_s
    for _ in range(300):
        chosen = make_candidate(view)._replace(prediction=predict(request, view, state, "reference"))
        reading_s = 0.5 * before.decode_s * 199
        state.observe(make_outcome(chosen=chosen, tpot_s=slower_s, completion_tokens=200, reading_s=reading_s), 0)
    after = predict(request, view, state, "reference")
    assert after.pace_q90_s == pytest.approx(before.decode_s, rel=0.05)
    assert after.tpot_q90_s == pytest.approx(slower_s, rel=0.05)


def test_a_longer_prompt_may_do_more_harm_and_whoever_knows_more() -> None:
    state = RoutingState()
    assert harm_allowed(0.025, make_request(prompt_tokens=1000), state) == pytest.approx(0.005)
    for _ in range(32):
        state.length("m").answer(100)
    state.length("m").prompt_tokens = 2000.0
    assert harm_allowed(0.025, make_request(prompt_tokens=8000), state) == pytest.approx(0.05)
    for _ in range(64):
        state.length("m").answer(100)
    assert harm_allowed(0.025, make_request(prompt_tokens=8000), state) == pytest.approx(0.1)
    assert harm_allowed(0.025, make_request(prompt_tokens=500), state) == pytest.approx(0.00625)


def test_what_was_not_observed_teaches_nothing() -> None:
    state = RoutingState()
    state.observe(make_outcome(), 0)
    learned = state.corrections("a m")
    assert (learned.ttft.pool.samples, learned.tpot.pool.samples) == (0, 0)
    assert state.length("m").characters_per_token == 4.0


def test_lengths_are_learned_from_usage() -> None:
    state = RoutingState()
    for _ in range(200):
        state.observe(make_outcome(prompt_chars=600, prompt_tokens=100, completion_tokens=50), 0)
    assert state.length("m").characters_per_token == pytest.approx(6.0, rel=0.01)
    assert state.length("m").completion_tokens == pytest.approx(50, rel=0.05)


def test_a_first_token_after_its_prefix_table_was_forgotten() -> None:
    state = RoutingState()
    place = Reservation("a", 1, 100, None, blocks=(1, 2), most_blocks=10, ticket=1)
    state.reserve(place, 0)
    state.prefixes.clear()
    state.first_token(place, 1)
    state.release(place, 2)
    assert state.load("a").sequences == 0


def test_nobody_may_do_more_harm_than_is_looked_at() -> None:
    state = RoutingState()
    state.length("m").prompt_tokens = 1.0
    assert harm_allowed(0.03, make_request(prompt_tokens=10_000), state) == MOST_HARM_LOOKED_AT


def test_answers_that_reach_their_limit_are_learned_too() -> None:
    """Leaving them out made clients that ask for exactly what they need seem to get long answers: harm was
    underestimated, and a fifth of the promises to them was broken."""
    state = RoutingState()
    for _ in range(100):
        state.observe(make_outcome(request=make_request(max_completion_tokens=14), completion_tokens=14), 0)
    assert state.length("m").completion_tokens == pytest.approx(14, rel=0.1)


def test_the_pace_of_two_tokens_teaches_nothing() -> None:
    state = RoutingState()
    state.observe(make_outcome(tpot_s=1e-5, completion_tokens=2), 0)
    assert state.corrections("a m").tpot.pool.samples == 0
    state.observe(make_outcome(tpot_s=1e-2, completion_tokens=4), 0)
    assert state.corrections("a m").tpot.pool.samples == 1


@pytest.mark.parametrize(("characters", "tokens"), [(10_000_000, 1), (1, 10_000_000)])
def test_one_clients_padding_cannot_ruin_everyones_estimates(characters: int, tokens: int) -> None:
    state = RoutingState()
    for _ in range(500):
        state.observe(make_outcome(prompt_chars=characters, prompt_tokens=tokens), 0)
    assert 0.5 <= state.length("m").characters_per_token <= 16


def test_queued_prompt_tokens_and_full_slots_add_waiting_time() -> None:
    state, request = RoutingState(), make_request(prompt_tokens=0, completion_tokens=100)
    view = make_view(profile=make_profile(max_sequences=4, overhead_s=0.0))
    state.reserve(Reservation("a", 4, 1000, None, 0.1), 0)
    waiting = predict(request, view, state, "reference")
    reading = 0.1 / 20  # of the last 20 s
    tpot_s = view.profile.tpot_s(5) / (1 - reading)
    assert waiting.wait_s == pytest.approx(0.1 + 1 * 100 * tpot_s / 4)
    parallel = make_view(profile=make_profile(prefill="parallel", overhead_s=0.0))
    assert predict(request, parallel, state, "reference").wait_s == 0.0
