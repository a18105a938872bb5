"""An engine becomes twice as slow in the middle of a run: how soon predictions of it are worth something again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

import pytest

from app.config.load import load
from app.replay.simulation import Simulation
from app.replay.stage import stage
from app.routing import residuals
from app.routing.types import Outcome
from tests.simulation.slowing import slow, with_events
from tests.simulation.test_bars import CAPACITY, FLEET, MODEL
from tests.simulation.test_replay import Rows, synthetic

SEEDS, DRIFT, COUNT = 3, 800, 2100
"""Requests are taken in turns by two backends, one of which drifts when so many of them have come; at three tenths of
what both take, so that it is still up to its half when it is slow."""

WITHIN = 300


class Seen(NamedTuple):
    """An observation: how far off the expected time was (observed / predicted), and whether the quantile held."""

    off: float
    held: bool


class Watch:
    """What comes of predictions of one backend, TTFT and TPOT apart; `since` is how many there were at the drift."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Seen]] = {"ttft": [], "tpot": []}
        self.since = {"ttft": 0, "tpot": 0}

    def add(self, outcome: Outcome) -> None:
        """One answer."""
        predicted = outcome.chosen.prediction
        for name, observed_s, expected_s, q90_s in (
            ("ttft", outcome.ttft_s, predicted.ttft_s, predicted.ttft_q90_s),
            ("tpot", outcome.tpot_s, predicted.tpot_s, predicted.tpot_q90_s),
        ):
            if observed_s is not None:
                self.seen[name].append(Seen(observed_s / expected_s, observed_s <= q90_s))

    def drifts(self) -> None:
        """It is now."""
        self.since = {name: len(seen) for name, seen in self.seen.items()}

    def after(self, quantity: str, first: int, last: int) -> list[Seen]:
        """The observations of that place after the drift (negative: before it)."""
        since = self.since[quantity]
        found = self.seen[quantity][since + first : since + last]
        assert len(found) == last - first, "the run was too short"
        return found


def drifted(fleet: Path, seed: int) -> Watch:
    """One run."""
    made, watch = stage(load(fleet), seed, Rows()), Watch()
    observe: Callable[[Outcome, int], None] = made.fleet.observe

    def noted(outcome: Outcome, now_ns: int) -> None:
        if outcome.chosen.view.name == "h100":
            watch.add(outcome)
        observe(outcome, now_ns)

    made.fleet.observe = noted  # type: ignore[method-assign]
    arrivals = [each._replace(blocks=()) for each in synthetic(COUNT, 0.3 * CAPACITY, seed=10 + seed)]

    def happens() -> None:
        slow(made.servers["h100"], 2.0)
        watch.drifts()

    simulation = Simulation(made, "round-robin", MODEL, lambda served: None)
    simulation.run(with_events(arrivals, {arrivals[DRIFT].at_s: happens}))
    return watch


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    path = tmp_path / "turnout.yaml"
    path.write_text(FLEET)
    return path


def pooled(watches: Sequence[Watch], quantity: str, first: int, last: int) -> tuple[float, float]:
    """(how often the quantile held, median of observed / predicted) of those observations of all runs."""
    found = [each for watch in watches for each in watch.after(quantity, first, last)]
    held, off = mean(each.held for each in found), median(each.off for each in found)
    print(f"{quantity} {first:5} to {last:4}: n {len(found)}, q90 holds {held:.3f}, observed / predicted {off:.3f}")
    return held, off


def in_band(watches: Sequence[Watch], first: int, last: int) -> bool:
    """Whether quantiles hold 87 to 93 times in a hundred and the median is right within 7 %, for both quantities."""
    found = [pooled(watches, quantity, first, last) for quantity in ("ttft", "tpot")]
    return all(0.87 <= held <= 0.93 and 0.93 <= off <= 1.07 for held, off in found)


def first_token_nearly(watches: Sequence[Watch], first: int, last: int) -> bool:
    """Whether the median of TTFT is right within 20 %."""
    return 0.8 <= pooled(watches, "ttft", first, last)[1] <= 1.2


def test_predictions_are_back_in_band_within_three_hundred_observations(fleet: Path) -> None:
    """Row: margin calibration, drift. And TTFT is nearly right after twenty, which is the drift detector's doing (from
    the fiftieth to the two hundredth it is foretold up to 18 % too long: the detector moves means, and then how much
    slower than its profile the backend is gets learned as well)."""
    watches = [drifted(fleet, seed) for seed in range(SEEDS)]
    assert in_band(watches, -WITHIN, 0)
    assert not first_token_nearly(watches, 0, 20), "or nothing has drifted"
    assert first_token_nearly(watches, 20, 80)
    assert in_band(watches, WITHIN, 2 * WITHIN)


def test_without_the_detector_the_first_dozens_are_wrong_and_without_the_trim_the_band_is_missed(
    fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutations of the test above. The detector alone is not missed any more at 300: exponential means and trim do
    without it by then."""
    monkeypatch.setattr(residuals, "DRIFT_RUN", 1 << 62)
    watches = [drifted(fleet, seed) for seed in range(SEEDS)]
    assert not first_token_nearly(watches, 20, 80)
    monkeypatch.setattr(residuals, "MOST_TRIM", 0.0)
    assert not in_band([drifted(fleet, seed) for seed in range(SEEDS)], WITHIN, 2 * WITHIN)
