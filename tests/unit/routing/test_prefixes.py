"""Which prompts a backend has read of late."""

from __future__ import annotations

import pytest

from app.routing.prefixes import BLOCK_CHARACTERS, TTL_NS, UNCONFIRMED_NS, PrefixTable, block_hashes
from app.routing.state import RoutingState
from tests.builders import make_outcome, make_policy, make_profile, make_request, make_snapshot, make_view

SYSTEM = tuple(range(100, 110))


def test_the_common_beginning_is_found() -> None:
    table = PrefixTable()
    table.dispatched((*SYSTEM, 1, 2), 1000, 0)
    table.read((*SYSTEM, 1, 2), 0)
    assert table.share((*SYSTEM, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16), 1) == pytest.approx(0.5)
    assert table.share((99, *SYSTEM), 1) == 0.0


def test_what_was_never_confirmed_is_believed_for_five_seconds_and_what_was_for_two_minutes() -> None:
    table = PrefixTable()
    table.dispatched(SYSTEM, 1000, 0)
    assert table.share(SYSTEM, UNCONFIRMED_NS - 1) == 1.0
    assert table.share(SYSTEM, UNCONFIRMED_NS) == 0.0
    table.read(SYSTEM, 0)
    assert table.share(SYSTEM, TTL_NS - 1) == 1.0
    assert table.share(SYSTEM, TTL_NS) == 0.0


def test_beyond_the_room_the_least_recently_used_goes_and_never_a_beginning_before_its_end() -> None:
    table = PrefixTable()
    for start in range(0, 100, 10):
        blocks = tuple(range(start, start + 10))
        table.dispatched(blocks, 35, 0)
        table.read(blocks, 0)
    assert len(table) == 35
    assert table.share(tuple(range(90, 100)), 1) == 1.0
    assert table.share(tuple(range(60, 70)), 1) == pytest.approx(0.5)
    assert table.share(tuple(range(10)), 1) == 0.0


def test_a_backend_that_keeps_nothing_is_not_trusted_for_long() -> None:
    table = PrefixTable()
    for _ in range(100):
        table.learn(1000, 0)
    assert table.trust < 0.05


def test_a_prompt_read_before_is_quicker_and_cheaper_there_so_affinity_needs_no_weight() -> None:
    views = tuple(make_view(name, profile=make_profile(prefix_cache=True)) for name in "abc")
    state, policy = RoutingState(), make_policy()
    request = make_request(blocks=SYSTEM)
    for _ in range(64):
        state.length(request.model).answer(100)
    first, delta = policy.decide(request, make_snapshot(*views), state, 0, 1, "d")
    assert first.chosen is not None
    assert delta.reservation is not None
    state.reserve(delta.reservation, 0)
    state.first_token(delta.reservation, 0)
    for seed in range(20):
        again = policy.decide(request, make_snapshot(*views), state, 1, seed, "d")[0].chosen
        assert again is not None
        assert again.view.name == first.chosen.view.name
        assert again.prediction.cached_tokens == 1000
        assert again.prediction.cost_nusd < first.chosen.prediction.cost_nusd


def test_hits_that_do_not_come_true_teach_the_state() -> None:
    view = make_view("a", profile=make_profile(prefix_cache=True))
    state, policy, request = RoutingState(), make_policy(), make_request(blocks=SYSTEM)
    for _ in range(60):
        decision, delta = policy.decide(request, make_snapshot(view), state, 0, 1, "d")
        assert delta.reservation is not None
        state.reserve(delta.reservation, 0)
        state.first_token(delta.reservation, 0)
        outcome = make_outcome(request=request, chosen=decision.chosen, prompt_tokens=1000, cached_tokens=0)
        state.observe(outcome, 0)
        state.release(delta.reservation, 0)
    assert state.prefixes["a"].trust < 0.1


def test_hashes_are_of_whole_blocks_chained_and_apart_by_tenant_and_model() -> None:
    system = "You are helpful. " * 400
    one, other = block_hashes("t m", system + "first question"), block_hashes("t m", system + "x" * BLOCK_CHARACTERS)
    whole = len(system) // BLOCK_CHARACTERS
    assert one[:whole] == other[:whole]
    assert one == one[:whole]
    assert len(other) == whole + 1
    assert not set(block_hashes("u m", system)) & set(one)
    assert not set(block_hashes("t m", "!" + system)) & set(one), "a block's hash covers everything before it"
    assert block_hashes("t m", "short") == ()
