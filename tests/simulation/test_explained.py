"""A decision explained from a file is the one made live at the moment the file was saved, to the last digit."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from app.api.receipts import receipt
from app.config.load import load
from app.fleet.state_file import dump, restore
from app.replay.formats import Arrival
from app.replay.records import Served
from app.replay.runs import Ledgered
from app.replay.simulation import Simulation
from app.replay.stage import stage
from app.routing.types import Slo
from tests.builders import make_request

MODEL = "llama-3.3-70b"
REQUEST = make_request(model=MODEL, prompt_tokens=6000, slo=Slo(3.0, 0.05))
HOUR_NS = 3_600_000_000_000


def rounded(value: Any) -> Any:
    """Ages are seconds in the file: a nanosecond may be lost, and the twelfth digit with it."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def test_in_the_midst_of_traffic_it_is_the_same_decision() -> None:
    loaded = load()
    live = stage(loaded, 0, Ledgered())
    simulation = Simulation(live, "cheapest-slo", MODEL, list[Served]().append)
    rng, compared, harmed = random.Random(3), 0, 0

    def compare(now_ns: int) -> None:
        nonlocal compared, harmed
        for residuals in (
            each for learned in live.fleet.state.learned.values() for each in (learned.ttft, learned.tpot)
        ):
            for stratum in (residuals.pool, *residuals.strata.values()):
                stratum.fresh_until_ns = -1  # live, quantiles are made anew once a second; a file has none that are old
        saved = json.loads(json.dumps(dump(live.fleet.state, now_ns)))
        number = live.fleet.receipts.next_number()
        here = receipt(live.fleet.preview(REQUEST, now_ns))
        assert rounded(explained(saved, now_ns + HOUR_NS, number)) == rounded(here)
        for each in saved["loads"].values():
            each["begun"] = []
        harmed += rounded(explained(saved, now_ns + HOUR_NS, number)) != rounded(here)
        compared += 1

    def explained(saved: dict[str, Any], now_ns: int, number: int) -> dict[str, Any]:
        fleet = stage(loaded, 0, Ledgered()).fleet
        fleet.state = restore(saved, now_ns)
        fleet.know_warmth(now_ns)
        fleet.receipts.resume(number)
        return receipt(fleet.preview(REQUEST, now_ns))

    def arrivals() -> Iterator[Arrival]:
        at_s = 0.0
        for number in range(240):
            at_s += rng.expovariate(12.0)
            yield Arrival(at_s, int(rng.lognormvariate(7.0, 0.8)) + 1, int(rng.lognormvariate(5.0, 0.7)) + 1)
            if number % 24 == 23:
                compare(simulation.now_ns)

    simulation.run(arrivals())
    assert compared == 10
    assert harmed, "when answers began must have mattered for this to prove that it is kept"
