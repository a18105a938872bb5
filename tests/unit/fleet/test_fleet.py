"""The fleet decides and reserves in one step, and is the only one to change the state."""

from __future__ import annotations

import pytest

from app.errors import NotFound
from app.fleet.fleet import Fleet
from app.fleet.receipts import Receipts
from app.routing.types import Slo
from tests.builders import make_policy, make_request, make_snapshot, make_view
from tests.fakes import ScriptedBackend


def fleet(*names: str) -> Fleet:
    backends = {name: ScriptedBackend(name) for name in names}
    snapshot = make_snapshot(*(make_view(name) for name in names))
    return Fleet(backends, snapshot, {"cheapest-slo": make_policy()}, Receipts(10, "d-"), 0)


def test_deciding_reserves_and_previewing_does_not() -> None:
    made = fleet("a", "b")
    made.preview(make_request(), 0)
    assert made.state.loads == {}
    decision, reservation = made.decide(make_request(choices=3), 0)
    assert decision.chosen is not None
    name = decision.chosen.view.name
    assert made.state.load(name).sequences == 3
    assert made.receipts.get(decision.id) == decision
    assert reservation is not None
    assert reservation[:6] == (name, 3, 1000, 0.05, 1000 * 1e-4, 3100)
    made.first_token(reservation, 0)
    made.release(reservation, 0)
    assert (made.state.load(name).sequences, made.state.load(name).pending_prompt_tokens) == (0, 0)


def test_a_drained_backend_gets_nothing_new_until_it_is_back() -> None:
    made, loose = fleet("a", "b"), make_request(slo=Slo(ttft_s=60.0))
    made.set_drained("a", 0, drained=True)
    assert {made.decide(loose, 0)[0].chosen.view.name for _ in range(8)} == {"b"}  # type: ignore[union-attr]
    made.set_drained("a", 0, drained=False)
    assert {made.decide(loose, 0)[0].chosen.view.name for _ in range(8)} >= {"a"}  # type: ignore[union-attr]
    with pytest.raises(NotFound):
        made.set_drained("nobody", 0, drained=True)


def test_an_unknown_policy_is_the_clients_mistake() -> None:
    with pytest.raises(NotFound, match="there are: cheapest-slo"):
        fleet("a").decide(make_request(policy="nope"), 0)


async def test_backends_start_in_order_and_close_in_reverse() -> None:
    made = fleet("a", "b")
    await made.start()
    assert all(backend.started for backend in made.backends.values())  # type: ignore[attr-defined]
    await made.aclose()
    assert all(backend.closed for backend in made.backends.values())  # type: ignore[attr-defined]
